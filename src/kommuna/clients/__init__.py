"""Clients of the servers that the platform runs, Airflow's and MLflow's: addresses, logins, time limits, refusals.

`http` has what they share. What a step asks MLflow's own library stands in `kommuna.steps.registry`, and how the
embedded platform sees that its servers live in `kommuna.embedded`.
"""
