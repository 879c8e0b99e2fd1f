"""Votes: compact patterns, dev rows joined to them, matrices and tables that people hold."""
