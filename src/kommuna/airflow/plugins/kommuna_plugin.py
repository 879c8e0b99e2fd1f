"""Hands `kommuna.airflow` to Airflow."""

from kommuna.airflow.plugin import KommunaPlugin

__all__ = ["KommunaPlugin"]
