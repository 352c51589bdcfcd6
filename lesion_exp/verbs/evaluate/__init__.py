"""Runs judged once more: on a part or another data set, with test-time augmentation, calibrated, several as one."""
