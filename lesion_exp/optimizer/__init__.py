"""Optimizers that torch does not have. `conf/optimizer` also points straight at `torch.optim`."""
