"""Configs: composed from `conf/` and overrides once, checked, frozen as a job, and moved to another machine."""
