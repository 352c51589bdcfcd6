"""Runs that exist: found, opened and read. Every verb that works on a run begins here."""
