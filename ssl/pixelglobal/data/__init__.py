"""From scans on disk to batches of slices."""
