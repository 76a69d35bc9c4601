"""Training: data, the loop, and the networks' own recipes."""
