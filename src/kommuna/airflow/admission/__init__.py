"""Admission: what a team's DAG may be, judged before it is stored."""
