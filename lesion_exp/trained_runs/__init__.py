"""Existing runs: their job, data, network and results. Every verb that works on a run begins here."""
