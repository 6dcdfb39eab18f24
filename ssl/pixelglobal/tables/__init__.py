"""Rows to tables."""
