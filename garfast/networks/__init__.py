"""Neural networks and their weight files. Needs torch and numpy only."""
