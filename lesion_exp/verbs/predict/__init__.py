"""Predicts images without labels (files, folders, zips and tables of them) with a run's network."""
