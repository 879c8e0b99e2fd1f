"""Kommuna's parts of Airflow's API server: its pages, ownership of variables, task logs in the store."""
