"""Code for an app, written from what a release says of a model file: a class a model, its README, and a test."""
