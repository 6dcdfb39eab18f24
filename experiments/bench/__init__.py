"""What things cost: against a named peer or floor, interleaved in one run, as ratios of medians."""
