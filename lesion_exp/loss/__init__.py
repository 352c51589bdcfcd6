"""Logits and labels -> scalar: one module a loss. `base` says what every loss promises."""
