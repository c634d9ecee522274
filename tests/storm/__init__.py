"""Storms: what kills, swaps, mutates and lies, from a seed (docs/reliability.md). The suite runs a small part."""
