"""Writes a run's network in other formats, and compares each with the original on images of the run."""
