"""What Kommuna adds to Airflow's server: its pages under `/kommuna`."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin


async def _pages(scope: Any, receive: Any, send: Any) -> None:
    """The pages as an ASGI app, imported at the first request: every Airflow process loads this plugin."""
    from kommuna.airflow.web import app

    await app(scope, receive, send)


class KommunaPlugin(AirflowPlugin):
    """Reports and manifests under `/kommuna`."""

    name = "kommuna"
    fastapi_apps: list[Any] = [  # noqa: RUF012  # as the base class has it
        {"app": _pages, "url_prefix": "/kommuna", "name": "Kommuna"}
    ]
