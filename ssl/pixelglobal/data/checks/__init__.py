"""What is probably wrong with scans and labels: measured once, when a scan is prepared, and judged by rules."""
