"""Outages: which of a driver's errors mean that a service does not answer, and how long that is waited out."""

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

# Names of HTTP and S3 clients' errors, looked for in the class's ancestors: none of the clients is imported for it.
_CLIENTS = ("aiobotocore", "aiohttp", "botocore", "httpcore", "httpx", "requests", "s3transfer", "urllib3")
_UNREACHABLE = {
    "ChunkedEncodingError", "ClientConnectionError", "ClientPayloadError", "ConnectError", "ConnectTimeout",
    "ConnectionError", "HTTPClientError", "MaxRetryError", "NameResolutionError", "NetworkError", "NewConnectionError",
    "ProtocolError", "ReadTimeout", "ReadTimeoutError", "ResponseStreamingError", "Timeout", "TimeoutException",
}  # fmt: skip
_REFUSED = {"SSLError", "ClientSSLError", "InvalidURL", "LocationParseError"}  # settings, which no waiting fixes
_NUMBERS = {
    errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETDOWN,
    errno.ENETUNREACH, errno.EPIPE, errno.ESTALE, errno.ETIMEDOUT,
}  # fmt: skip


@dataclass(frozen=True)
class RetryPolicy:
    """How long an outage is waited out: pauses double up to the longest, until all of them together are `total`.

    Args:
        first: seconds before the second try.
        longest: seconds of one pause.
        total: seconds of all pauses.
    """

    first: float = 2.0
    longest: float = 60.0
    total: float = 900.0

    def pauses(self) -> Iterator[float]:
        """Seconds of each pause, up to a fifth longer or shorter by chance: tasks do not come back all at once."""
        waited, pause = 0.0, self.first
        while waited + pause <= self.total:
            waited += pause
            yield pause * random.uniform(0.8, 1.2)
            pause = min(2 * pause, self.longest)


def wait_out(
    action: Callable[[], T], policy: RetryPolicy | None = None, *, sleep: Callable[[float], None] = time.sleep
) -> T:
    """Does something that needs the platform's services, again and again while one of them does not answer.

    What it waits for is logged at each pause. These tries are the platform's: Airflow's `retries` are not touched.

    Args:
        action: can be repeated.
        policy: how long.
        sleep: waits so many seconds.

    Raises:
        Outage: the service did not come back in time.
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
    """Whether an error of a client library, or what it came from, says that a service does not answer.

    A refusal (HTTP 4xx but 408 and 429, a wrong certificate) is none.
    """
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        answer = _judged(link)
        if answer is not None:
            return answer
        link = link.__cause__ or link.__context__
    return False


def is_outage_status(status: int) -> bool:
    """Whether an HTTP status says that the service is in trouble, not the request."""
    return status >= 500 or status in (408, 429)


def _judged(error: BaseException) -> bool | None:
    """Yes or no where this error by itself tells; None where what it came from has to."""
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
