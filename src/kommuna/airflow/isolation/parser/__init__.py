"""The untrusted half: runs in the team's namespace, without credentials, and imports the team's DAG files."""
