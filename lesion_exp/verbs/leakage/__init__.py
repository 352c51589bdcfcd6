"""The verb `leakage`, the leak meter: one config trained on a correct and on leaky splits, and the inflated scores."""
