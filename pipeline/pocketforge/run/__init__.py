"""Walks the steps of a plan: what is stored is reused, the rest runs, each stage in a process of its own."""
