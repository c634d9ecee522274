"""`fit`: a space, trials, a front."""
