"""The MLflow store: where runs are recorded, in which state they are, and how they are read back."""
