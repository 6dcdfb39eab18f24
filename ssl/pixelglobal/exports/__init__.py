"""Trained networks for other libraries. Each export is loaded by the other library and compared before it is kept."""
