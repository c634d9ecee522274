"""The PyTorch side of a model: how it is defined, loaded, changed, and what it answers."""
