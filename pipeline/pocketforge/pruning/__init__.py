"""Making a trained model smaller: single weights, channels, whole blocks. One method a file, named in METHODS.

A method is a module with `prune(subject, settings) -> Pruned` (see base.py).
"""

METHODS = {
    "prune_unstructured": "pocketforge.pruning.unstructured",
    "prune_channels": "pocketforge.pruning.channels",
    "drop_layers": "pocketforge.pruning.layers",
}
