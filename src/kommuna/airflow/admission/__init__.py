"""Admission: checks a team's DAGs against the platform's rules before they are stored."""
