"""Runs as one file that moves between stores: a zip of JSON, texts and the runs' own artifacts, nothing pickled."""
