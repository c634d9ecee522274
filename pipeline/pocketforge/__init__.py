"""Pocketforge: a trained PyTorch model in, proven and gated phone-ready model files out."""
