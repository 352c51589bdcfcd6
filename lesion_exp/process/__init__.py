"""The processes of a command: how they start, talk, end, and know that they are one of several."""
