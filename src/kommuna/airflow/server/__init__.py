"""What Kommuna adds to Airflow's API server: its pages, the owners of variables, task logs in the store."""
