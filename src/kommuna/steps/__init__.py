"""The shared steps: pure functions from artifacts and parameters to artifacts and metrics."""
