"""Predictions table -> metrics, intervals, report and figures. See `predictions` for the table."""
