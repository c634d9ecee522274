"""Networks that no library of ours builds at this size, written as their papers have them."""
