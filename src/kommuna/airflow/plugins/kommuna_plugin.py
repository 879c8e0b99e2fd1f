"""Registers `kommuna.airflow` with Airflow."""

from kommuna.airflow.server.plugin import KommunaPlugin

__all__ = ["KommunaPlugin"]
