"""A run's network applied to images that need no label: files, folders, zips and tables of them."""
