"""Runs and sweeps as one HTML page each, from what they keep: no network, no model, no images of the data set."""
