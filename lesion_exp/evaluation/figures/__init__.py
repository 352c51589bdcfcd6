"""Pictures of a predictions table, one a file; each is a matplotlib Figure (a gallery: a PIL image) that nobody has
shown or saved."""
