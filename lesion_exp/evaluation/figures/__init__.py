"""Figures of predictions tables and of results. The functions return a matplotlib Figure, or a PIL image for a gallery,
and neither show nor save it."""
