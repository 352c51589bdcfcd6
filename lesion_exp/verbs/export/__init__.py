"""A run's network in other formats, each checked against the original on real images."""
