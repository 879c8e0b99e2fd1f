"""Runs one step in its own process, with limits, signals, a manifest and exit codes: `python -m kommuna.runtime`."""
