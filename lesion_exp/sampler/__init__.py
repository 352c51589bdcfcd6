"""Table -> the order of an epoch. Which images are seen, how often and in which order is decided here alone."""
