"""The Airflow plugin that adds Kommuna's pages under `/kommuna`, and the middlewares that judge requests."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from airflow.plugins_manager import AirflowPlugin


async def _pages(scope: Any, receive: Any, send: Any) -> None:
    """Serves the pages. Imported at the first request, since every Airflow process loads this plugin."""
    from kommuna.airflow.server.web import app

    await app(scope, receive, send)


class _Lazy:
    """A middleware that is imported at the first request.

    Args:
        app: the wrapped ASGI application.
        module: the middleware's module in this package.
        name: its class.
    """

    def __init__(self, app: Any, module: str, name: str) -> None:
        self._app = app
        self._module = module
        self._name = name
        self._made: Any = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self._made is None:
            self._made = getattr(import_module(f"kommuna.airflow.server.{self._module}"), self._name)(self._app)
        await self._made(scope, receive, send)


def _middleware(name: str, module: str, made: str) -> dict[str, Any]:
    return {"middleware": _Lazy, "name": name, "kwargs": {"module": module, "name": made}}


class KommunaPlugin(AirflowPlugin):
    """Adds reports and manifests under `/kommuna`, ownership by name, and the guards of requests."""

    name = "kommuna"
    fastapi_apps: list[Any] = [  # noqa: RUF012  # as the base class has it
        {"app": _pages, "url_prefix": "/kommuna", "name": "Kommuna"}
    ]
    fastapi_root_middlewares: list[Any] = [  # noqa: RUF012
        _middleware("Kommuna ownership", "ownership", "Ownership"),
        _middleware("Kommuna guard", "guard.middleware", "Guard"),
        _middleware("Kommuna people", "people.middleware", "People"),  # the outermost: Airflow adds them inside out
    ]
