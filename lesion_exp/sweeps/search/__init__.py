"""Searches, which choose the cells of a sweep: a class for each option of `conf/search`."""
