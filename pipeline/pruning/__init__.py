"""Making a trained model smaller: single weights, channels, whole blocks. One method a file, named in METHODS.

A method is a module with `prune(subject, settings) -> Pruned` (see base.py).
"""

METHODS = {
    "prune_unstructured": "pipeline.pruning.unstructured",
    "prune_channels": "pipeline.pruning.channels",
    "drop_layers": "pipeline.pruning.layers",
}
