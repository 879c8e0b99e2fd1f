"""`python -m kommuna.embedded.supervise -c FILE`: supervisord, which a full disk does not end.

supervisord writes what it cannot log to its standard error, a file on the same disk, and ends when that fails too; the
processes that it started go on with nobody to restart or stop them. Here a log line that cannot be written is dropped.
"""

from __future__ import annotations

import contextlib

from supervisor import loggers, supervisord


class _TolerantFile(loggers.RotatingFileHandler):  # type: ignore[misc]
    """A log file that drops the lines for which there is no space."""

    def emit(self, record: object) -> None:
        with contextlib.suppress(OSError):
            super().emit(record)

    def handleError(self) -> None:
        """Says nothing: there is nowhere to say it."""


def main() -> None:
    """Runs supervisord with tolerant log files."""
    loggers.RotatingFileHandler = _TolerantFile
    supervisord.main()


if __name__ == "__main__":
    main()
