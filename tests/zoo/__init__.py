"""The zoo: architectures that people ship, through every runtime, by the product's own builds (docs/zoo.md)."""
