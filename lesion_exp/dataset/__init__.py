"""Data sets: each module with a `read_NAME` reads a folder into a table. `table` describes the columns."""
