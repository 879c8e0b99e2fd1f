"""Runs a team's code for `kommuna check`: each file in a process of its own, held to limits."""
