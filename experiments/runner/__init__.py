"""Runs of a study, their stages, and how they are spread over a cluster."""
