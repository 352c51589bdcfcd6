"""Launchers, which run the cells of a sweep: a class for each option of `conf/launcher`."""
