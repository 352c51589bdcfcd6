"""Running a job once more: under which conditions, and whether it comes to the same."""
