"""Calls every endpoint of the REST API as somebody, with a foreign team's ids in every place that takes one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import requests

from kommuna.airflow.server.people.routes import TABLE

_FILLED = re.compile(r"{([a-z_]+)(?::path)?}")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_LEFT_OUT = ("/execution", "/auth/", "/static", "/api/v2/auth/logout")  # walked elsewhere, or it ends the session


@dataclass(frozen=True)
class Call:
    """An answered request of the walk."""

    method: str
    template: str
    status: int
    text: str


def endpoints(url: str, token: str) -> list[str]:
    """Returns the paths of the running server's own OpenAPI document, and those of the table that it leaves out."""
    answer = requests.get(f"{url}/openapi.json", headers={"Authorization": f"Bearer {token}"}, timeout=60)
    answer.raise_for_status()
    table = {row.path.replace(":path", "") for row in TABLE if row.path.startswith(("/api/v2/", "/ui/", "/kommuna/"))}
    return sorted(path for path in table | set(answer.json()["paths"]) if not path.startswith(_LEFT_OUT))


def walk(
    url: str, token: str | None, paths: list[str], ids: Mapping[str, Any], body: Mapping[str, Any]
) -> Iterator[Call]:
    """Calls each path with each method.

    Args:
        url: the server's address.
        token: of the caller; None for nobody.
        paths: templates.
        ids: a value for each name in a template, usually of another team; `~` is tried for DAGs and runs, too.
        body: what is sent with each writing request.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    wild = {**ids, "dag_id": "~", "dag_run_id": "~"}
    jobs = [
        (method, path, _FILLED.sub(lambda found, by=by: str(by.get(found[1], "x")), path))  # type: ignore[misc]
        for path in paths
        for method in METHODS
        for by in ([ids, wild] if "{dag_id}" in path else [ids])
    ]

    def call(job: tuple[str, str, str]) -> Call:
        method, template, path = job
        sent = None if method == "GET" else dict(body)
        answer = requests.request(method, f"{url}{path}", headers=headers, json=sent, timeout=60, allow_redirects=False)
        return Call(method, template, answer.status_code, answer.text)

    with ThreadPoolExecutor(4) as pool:
        yield from pool.map(call, jobs)
