"""Kommuna: one Airflow on Kubernetes that many ML teams share without getting in each other's way."""

__version__ = "0.1.0"
