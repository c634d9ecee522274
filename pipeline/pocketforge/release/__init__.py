"""A release as a thing to hand on: its documents, its sums and signature, what changed in it, patches between two."""
