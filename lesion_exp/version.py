"""The version of this package. Rooms read it here: the package itself imports them, for its Python interface."""

__version__ = "0.1.0"
