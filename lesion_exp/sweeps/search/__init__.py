"""Which cells a sweep has: a class an option of `conf/search`."""
