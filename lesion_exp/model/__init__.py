"""Trained networks: with what they need of an image, their calibration and their files; the one predictor."""
