"""Methods of pre-training, each in a file of its own with its settings."""
