"""The untrusted half: runs in the team's namespace, imports the team's DAG files and nothing else. No credentials."""
