"""Shared steps: pure functions of artifacts and parameters."""
