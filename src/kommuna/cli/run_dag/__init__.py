"""Runs a team's DAG in the current process, where a breakpoint works: `kommuna run-dag`, and `dag.test()` in a file.

settings    the process's Airflow settings: those of the embedded platform, with a separate database
database    that database: created once per version of Airflow, copied for each process
secrets     the team's variables and connections, read from the platform
hook        loaded by Airflow at its start, so that all of this also applies to `python FILE`
command     `kommuna run-dag`
"""
