"""Making a trained model smaller: single weights, channels, whole blocks. One method a file (registries.METHODS).

A method is a module with `prune(subject, settings) -> Pruned` (see base.py).
"""
