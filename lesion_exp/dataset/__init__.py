"""Folder -> table: one module a data set. See `table` for the columns that every table has."""
