"""The verb `explain`: saliency maps of a run's predictions, and how much of them lies inside the lesion."""
