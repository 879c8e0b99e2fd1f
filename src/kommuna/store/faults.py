"""Converts errors of file systems and their drivers to store errors."""

from __future__ import annotations

import errno

from kommuna.errors import StoreError, StoreUnreachable
from kommuna.outages import is_outage


def store_error(error: Exception, url: str) -> StoreError:
    """Converts a driver's error to a store error: full, read-only, refused or unreachable."""
    number = getattr(error, "errno", None)
    if number in (errno.ENOSPC, errno.EDQUOT):
        return StoreError("the artifact store is full", where=url, fix="run `kommuna gc`, or give the store more room")
    if number in (errno.EROFS, errno.EACCES, errno.EPERM):
        return StoreError(f"the artifact store refuses to write: {error}", where=url, fix="check its mount and rights")
    if is_outage(error):
        return StoreUnreachable(
            f"the artifact store does not answer: {type(error).__name__}: {error}",
            where=url,
            fix="check that it is up and its address, `store` in kommuna.yaml",
        )
    return StoreError(
        f"the artifact store failed: {type(error).__name__}: {error}",
        where=url,
        fix="check its address, bucket and credentials, `store` in kommuna.yaml",
    )
