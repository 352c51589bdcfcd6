"""What the command line shows: its verbs, their help and the config of a run."""
