"""Calls many endpoints of a server as somebody, with a foreign team's ids in every place that takes one."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import requests

_FILLED = re.compile(r"{([a-z_]+)(?::path)?}|<(?:[a-z]+:)?([a-z_]+)>")


@dataclass(frozen=True)
class Call:
    """An answered request of a walk."""

    method: str
    template: str
    status: int
    text: str


@dataclass(frozen=True)
class Job:
    """A request of a walk; `options` are those of `requests`."""

    method: str
    template: str
    path: str
    options: Mapping[str, Any]


def filled(template: str, ids: Mapping[str, Any]) -> str:
    """Returns a path with values for the names in its template, in FastAPI's or Flask's format."""
    return _FILLED.sub(lambda found: str(ids.get(found[1] or found[2], "x")), template)


def walk(url: str, jobs: Iterable[Job], **session: Any) -> list[Call]:
    """Sends the requests, four at a time.

    Args:
        url: the server's address.
        jobs: the requests.
        session: attributes of the sessions that send them, such as `auth` and `headers`.
    """
    own = threading.local()

    def call(job: Job) -> Call:
        if not hasattr(own, "session"):
            own.session = requests.Session()
            for name, value in session.items():
                setattr(own.session, name, value)
        own.session.cookies.clear()
        answer = own.session.request(job.method, url + job.path, timeout=60, allow_redirects=False, **job.options)
        return Call(job.method, job.template, answer.status_code, answer.text)

    with ThreadPoolExecutor(4) as pool:
        return list(pool.map(call, jobs))


def unread(calls: Iterable[Call], status: int) -> str:
    """Returns how many writes were answered with a status that means that the body was not understood, and which."""
    writes = [call for call in calls if call.method != "GET" and call.status not in (404, 405)]
    found = Counter(f"{call.method} {call.template}" for call in writes if call.status == status)
    return f"{found.total()} of {len(writes)} writes were answered {status}: {', '.join(sorted(found)) or '-'}"
