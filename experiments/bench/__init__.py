"""What things cost: compared with other libraries or a lower bound, interleaved in one run, as ratios of medians."""
