"""Runs one step in its own process: limits, signals, manifest, exit codes. `python -m kommuna.runtime`."""
