"""Paired comparisons, claims about methods, margins and power: arrays in, numbers out."""
