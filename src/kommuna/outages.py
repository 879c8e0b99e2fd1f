"""Outages: recognises client errors that mean that a service does not answer, and retries until it does."""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import structlog

from kommuna.errors import Outage

log = structlog.get_logger()
T = TypeVar("T")

# Names of errors of HTTP and S3 clients, compared with the error's base classes, so that no client is imported.
_CLIENTS = ("aiobotocore", "aiohttp", "botocore", "httpcore", "httpx", "requests", "s3transfer", "urllib3")
_UNREACHABLE = {
    "ChunkedEncodingError", "ClientConnectionError", "ClientPayloadError", "ConnectError", "ConnectTimeout",
    "ConnectionError", "HTTPClientError", "MaxRetryError", "NameResolutionError", "NetworkError", "NewConnectionError",
    "ProtocolError", "ReadTimeout", "ReadTimeoutError", "ResponseStreamingError", "Timeout", "TimeoutException",
}  # fmt: skip
_REFUSED = {
    "SSLError",
    "ClientSSLError",
    "InvalidURL",
    "LocationParseError",
}  # wrong settings, which waiting does not fix
_NUMBERS = {
    errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN,
    errno.ENETUNREACH, errno.EPIPE, errno.ESTALE, errno.ETIMEDOUT,
}  # fmt: skip


@dataclass(frozen=True)
class RetryPolicy:
    """How long an outage is waited out. Pauses double up to the longest one, until their sum reaches `total`.

    Args:
        first: seconds before the first retry.
        longest: seconds of the longest pause.
        total: seconds of all pauses together.
    """

    first: float = 2.0
    longest: float = 60.0
    total: float = 900.0

    def pauses(self) -> Iterator[float]:
        """Yields the seconds of each pause, with a jitter of 20 % so that tasks do not retry all at once."""
        waited, pause = 0.0, self.first
        while waited + pause <= self.total:
            waited += pause
            yield pause * random.uniform(0.8, 1.2)
            pause = min(2 * pause, self.longest)


def wait_out(
    action: Callable[[], T], policy: RetryPolicy | None = None, *, sleep: Callable[[float], None] = time.sleep
) -> T:
    """Runs an action, and repeats it while a service that it needs does not answer.

    Each pause is logged with its reason. These retries do not count towards Airflow's `retries`.

    Args:
        action: the action; it must be repeatable.
        policy: the pauses; the default policy if absent.
        sleep: waits for a number of seconds.

    Raises:
        Outage: the service did not recover in time.
    """
    began = time.monotonic()
    for pause in (policy or RetryPolicy()).pauses():
        try:
            return action()
        except Outage as outage:
            log.warning(
                "outage.waiting", reason=outage.what, next_try_in=round(pause), waited=round(time.monotonic() - began)
            )
        sleep(pause)
    try:
        return action()
    except Outage as outage:
        outage.what = f"{outage.what}, for {(time.monotonic() - began) / 60:.0f} minutes"
        outage.args = (outage.what,)
        raise


def is_outage(error: BaseException) -> bool:
    """Whether an error of a client library, or one of its causes, means that a service does not answer.

    A refusal is not an outage: an HTTP 4xx except 408 and 429, or a wrong certificate.
    """
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        answer = _classify(link)
        if answer is not None:
            return answer
        link = link.__cause__ or link.__context__
    return False


def is_outage_status(status: int) -> bool:
    """Whether an HTTP status means that the service has failed, and not that the request is wrong."""
    return status >= 500 or status in (408, 429)


def _classify(error: BaseException) -> bool | None:
    """Classifies an error without its causes; None if only its causes can tell."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore's
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        return is_outage_status(status) if isinstance(status, int) else None
    if isinstance(getattr(response, "status_code", None), int):  # requests'
        return is_outage_status(response.status_code)  # type: ignore[union-attr]
    names = {kind.__name__ for kind in type(error).__mro__ if kind.__module__.partition(".")[0] in _CLIENTS}
    if names & _REFUSED:
        return False
    if names & _UNREACHABLE or isinstance(error, ConnectionError | TimeoutError):
        return True
    if isinstance(error, OSError) and (error.errno in _NUMBERS or type(error).__name__ == "gaierror"):
        return True
    return None
