"""Metrics, intervals, reports and figures, all computed from predictions tables (see `predictions`)."""
