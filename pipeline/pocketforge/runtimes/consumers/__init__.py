"""Programs that run files in what apps load them with: each in an environment of its own, started by its path."""
