"""Predictions, metrics and rows of results."""
