"""Labeling steps: rules to votes, votes to labels, and the report that shows which rule to fix."""
