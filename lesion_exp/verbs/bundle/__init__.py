"""Bundles, which move runs between stores: a zip of JSON, texts and the artifacts of runs, without pickled objects."""
