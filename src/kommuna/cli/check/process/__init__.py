"""Runs team code for `kommuna check`: each file in its own process, with limits."""
