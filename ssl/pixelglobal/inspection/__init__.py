"""What is probably wrong with the scans and labels of stores: in lines, in tables, and on a page without a network."""
