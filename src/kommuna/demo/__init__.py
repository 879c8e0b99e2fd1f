"""Synthetic data of the example teams, and public data in the same layout."""
