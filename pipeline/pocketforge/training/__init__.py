"""Supervised training on the CPU, deterministic: the same data, seed and machine give the same bits."""
