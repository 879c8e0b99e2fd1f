"""The Airflow plugin that adds Kommuna's pages under `/kommuna`, and the ownership middleware."""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin


async def _pages(scope: Any, receive: Any, send: Any) -> None:
    """Serves the pages. Imported at the first request, since every Airflow process loads this plugin."""
    from kommuna.airflow.server.web import app

    await app(scope, receive, send)


class _Ownership:
    """`ownership.Ownership`, imported at the first request."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._made: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._made is None:
            from kommuna.airflow.server.ownership import Ownership

            self._made = Ownership(self._app)
        await self._made(scope, receive, send)


class KommunaPlugin(AirflowPlugin):
    """Adds reports and manifests under `/kommuna`, and ownership of variables and connections by name."""

    name = "kommuna"
    fastapi_apps: list[Any] = [  # noqa: RUF012  # as the base class has it
        {"app": _pages, "url_prefix": "/kommuna", "name": "Kommuna"}
    ]
    fastapi_root_middlewares: list[Any] = [  # noqa: RUF012
        {"middleware": _Ownership, "name": "Kommuna ownership"}
    ]
