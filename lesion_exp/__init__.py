"""Config-driven experiments for classifying images of skin lesions."""

__version__ = "0.1.0"
