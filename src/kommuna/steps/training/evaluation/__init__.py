"""Metrics of a classifier on labeled rows, the leakage check, and the report page."""
