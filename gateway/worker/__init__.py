"""One process that takes calls."""
