"""Classifiers fitted on soft labels, and what makes them sure of themselves to the right degree."""
