"""The verb `evaluate`: a run on one of its parts or on another data set, or several runs as an ensemble."""
