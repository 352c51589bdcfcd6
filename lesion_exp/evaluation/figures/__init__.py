"""Pictures of a predictions table, one a file; each is a matplotlib Figure that nobody has shown or saved."""
