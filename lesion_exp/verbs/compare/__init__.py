"""Finished runs -> a statistical comparison of the jobs they were made from. See `compare`."""
