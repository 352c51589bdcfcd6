"""The evidence behind a run's predictions: maps drawn over images, and how much of them lies inside the lesion."""
