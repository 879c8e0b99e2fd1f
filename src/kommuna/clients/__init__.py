"""Clients of Airflow's and MLflow's servers: addresses, logins, timeouts and errors.

`http` contains what they share. Calls of MLflow's own library by steps are in `kommuna.steps.registry`, and the health
checks of the embedded platform are in `kommuna.embedded`.
"""
