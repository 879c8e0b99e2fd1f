"""A session with one server: its login, its proxies and its timeout."""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

TIMEOUT_SECONDS = 30


class Bearer(AuthBase):
    """Authenticates by a token, even if a `.netrc` has a login for the server."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Adds the token to a request."""
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class Server:
    """A server that is called by HTTP.

    Args:
        url: the server's address.
        auth: the login; None if the server needs none.
        headers: headers of every request.
    """

    def __init__(
        self, url: str, *, auth: AuthBase | tuple[str, str] | None = None, headers: dict[str, str] | None = None
    ) -> None:
        self.url = url.rstrip("/")
        self.session = requests.Session()
        self.session.auth = auth
        self.session.headers.update(headers or {})
        self.session.trust_env = not _is_loopback(self.url)  # no proxy for the loopback address

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """Sends a request and returns the answer, whatever its status.

        Raises:
            requests.RequestException: there is no answer.
        """
        return self.session.request(method, f"{self.url}{path}", **{"timeout": TIMEOUT_SECONDS, **options})


def error_message(answer: requests.Response, *, key: str) -> str:
    """Returns the message of an error response, in at most 500 characters.

    Args:
        answer: the server's response.
        key: the key of the message in its JSON.
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
