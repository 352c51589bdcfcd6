"""Runs a job again, and compares its conditions and results with those of the first run."""
