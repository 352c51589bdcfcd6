"""The processes of a command: how they start, communicate and end, and how they know their rank."""
