"""Augmentation: pipelines of albumentations, transforms for dermoscopy, and the mixing of batches."""
