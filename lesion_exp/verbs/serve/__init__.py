"""Serves a run's network as a web application: an API for predictions, a web page, and limits on what they accept."""
