"""Runs of jobs: from a frozen job to a run in MLflow."""
