"""HTTP calls to the platform's own servers, which bypass the proxies of the environment."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Answer:
    """A server's response: its status, and its body as text."""

    status: int
    text: str

    @property
    def ok(self) -> bool:
        """Whether the status is a success (2xx)."""
        return 200 <= self.status < 300

    def json(self) -> Any:
        """Parses the body as JSON."""
        return json.loads(self.text)


def call(url: str, body: dict[str, Any] | None = None, *, seconds: float = 20) -> Answer | None:
    """Sends a GET, or a POST with a JSON body.

    Args:
        url: the address.
        body: the JSON body of a POST; None sends a GET.
        seconds: the longest wait for the answer.

    Returns:
        The answer, whatever its status; None if there is no answer.
    """
    request = urllib.request.Request(url, headers={"Content-Type": "application/json"})
    if body is not None:
        request.data = json.dumps(body).encode()
    try:
        with _OPENER.open(request, timeout=seconds) as answer:
            return Answer(answer.status, answer.read().decode(errors="replace"))
    except urllib.error.HTTPError as error:
        return Answer(error.code, error.read().decode(errors="replace"))
    except OSError:
        return None
