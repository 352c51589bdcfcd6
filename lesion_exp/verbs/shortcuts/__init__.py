"""The verb `shortcuts`: how well models predict without seeing the lesion, and the effect of artefacts on a network."""
