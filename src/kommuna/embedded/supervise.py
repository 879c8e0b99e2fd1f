"""Runs a supervisord that survives a full disk: `python -m kommuna.embedded.supervise -c FILE`.

supervisord reports a failed log write on its standard error, a file on the same disk. If that fails, too, it exits, and
nothing restarts or stops its processes any more. Here a log line that cannot be written is dropped.
"""

from __future__ import annotations

import contextlib

from supervisor import loggers, supervisord


class _TolerantFile(loggers.RotatingFileHandler):  # type: ignore[misc]
    """A log file that drops lines when there is no space."""

    def emit(self, record: object) -> None:
        with contextlib.suppress(OSError):
            super().emit(record)

    def handleError(self) -> None:
        """Does nothing, since there is nowhere to report to."""


def main() -> None:
    """Runs supervisord with tolerant log files."""
    loggers.RotatingFileHandler = _TolerantFile
    supervisord.main()


if __name__ == "__main__":
    main()
