"""The version of the library, which models and reports name."""

__version__ = "0.2.0"
