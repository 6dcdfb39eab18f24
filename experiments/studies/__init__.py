"""The studies: what each one asks, compares and costs."""
