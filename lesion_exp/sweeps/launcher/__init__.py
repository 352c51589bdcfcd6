"""What the cells of a sweep run on: a class an option of `conf/launcher`."""
