"""Sweeps: many jobs, a ledger with the state of each, launchers that run them and searches that choose them."""
