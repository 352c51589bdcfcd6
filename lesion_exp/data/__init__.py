"""Image store, data sets of tensors and data loaders."""
