"""Hands `kommuna.airflow` to Airflow."""

from kommuna.airflow.server.plugin import KommunaPlugin

__all__ = ["KommunaPlugin"]
