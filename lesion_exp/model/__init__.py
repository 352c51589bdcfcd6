"""Trained networks with their preprocessing, calibration and files; the one predictor."""
