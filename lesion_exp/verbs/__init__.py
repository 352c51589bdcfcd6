"""The verbs of the command: each room is what a user does with data, jobs, runs and predictions."""
