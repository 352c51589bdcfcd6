"""Between the table and the network: the image store, the data set of tensors, the loaders."""
