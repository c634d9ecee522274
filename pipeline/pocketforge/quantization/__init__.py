"""Quantization on the exported graph (PT2E), once for all runtimes."""
