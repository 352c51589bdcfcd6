"""The verb `compare`: a statistical comparison of jobs from the stored predictions of their runs."""
