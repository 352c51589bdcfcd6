"""Optimizers that torch does not have. Most options in `conf/optimizer` are classes of `torch.optim`."""
