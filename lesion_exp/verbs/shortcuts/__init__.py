"""Shortcut checks: what can be told without looking at the lesion, and what a network makes of things beside it."""
