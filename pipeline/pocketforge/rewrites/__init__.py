"""The traced graph, rewritten so that what folds, quantizes and exports it computes the same function."""
