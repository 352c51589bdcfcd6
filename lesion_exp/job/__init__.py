"""Jobs: composed once, frozen, and run from their file alone."""
