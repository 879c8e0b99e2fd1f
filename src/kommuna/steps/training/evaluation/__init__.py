"""Figures of a classifier on labeled rows, and the page that shows them."""
