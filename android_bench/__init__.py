"""What runs on phones, and how to reach them. Knows nothing of `pipeline`."""
