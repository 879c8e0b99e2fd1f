"""Votes: distinct patterns, votes on dev rows, agreement and correlation of rules, conversions to other formats."""
