"""Samplers, which decide which training images an epoch contains, how often and in which order."""
