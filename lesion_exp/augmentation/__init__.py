"""Augmentation: albumentations pipelines, the transforms of this field, and the mixing of batches."""
