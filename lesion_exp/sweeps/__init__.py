"""Sweeps: many jobs frozen at once, a ledger of how each of them stands, and what runs them."""
