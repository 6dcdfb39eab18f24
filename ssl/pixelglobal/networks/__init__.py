"""Encoder-decoder, heads, segmenter, and dropout passes."""
