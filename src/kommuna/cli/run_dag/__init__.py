"""Runs a team's DAG in the process at hand, where a breakpoint works: `kommuna run-dag`, and `dag.test()` in its file.

settings    the process's Airflow settings: the embedded platform's, with a database of its own
database    that database: made once per version of Airflow, copied for each process
secrets     the team's variables and connections, read from the platform
hook        what Airflow loads at its start, so that `python FILE` has all of this
command     `kommuna run-dag`
"""
