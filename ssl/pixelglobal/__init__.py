"""Pixel-global self-supervised learning for CT segmentation (Zhang & Zhang), with its relatives and its statistics."""

__version__ = "0.1.0"
