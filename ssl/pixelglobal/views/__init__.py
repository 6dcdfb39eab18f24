"""Augmented views of slices, and which of their pixels are twins."""
