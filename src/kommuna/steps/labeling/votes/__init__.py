"""Votes: compact patterns, dev rows joined to them, and conversions from matrices and tables."""
