"""A session with one server: who calls, past which proxies, and how long an answer is waited for."""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

TIMEOUT_SECONDS = 30


class Bearer(AuthBase):
    """A token as the login, whatever a `.netrc` has for the server."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class Server:
    """One server, called by HTTP.

    Args:
        url: its address.
        auth: the login; None where it wants none.
        headers: of every request.
    """

    def __init__(
        self, url: str, *, auth: AuthBase | tuple[str, str] | None = None, headers: dict[str, str] | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self.session = requests.Session()
        self.session.auth = auth
        self.session.headers.update(headers or {})
        self.session.trust_env = not _is_loopback(self.url)  # no proxy stands between this machine and itself

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """An answer, whatever its status.

        Raises:
            requests.RequestException: there is none.
        """
        return self.session.request(method, f"{self.url}{path}", **{"timeout": TIMEOUT_SECONDS, **options})


def said(answer: requests.Response, *, key: str) -> str:
    """What a refusal says, in at most 500 characters.

    Args:
        answer: of the server.
        key: of its JSON that has the words.
    """
    try:
        return str(answer.json().get(key, answer.text))[:500]
    except (ValueError, AttributeError):
        return answer.text[:500] or str(answer.reason)


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
