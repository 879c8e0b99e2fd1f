"""The limits of `kommuna check` for one file."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The limits for one file. The defaults are those of the platform's parser.

    Attributes:
        seconds: the time to import the file. Checking its DAGs may take as long again.
        memory: bytes beyond what Airflow itself uses.
    """

    seconds: float = 30.0
    memory: int = 512 * 1024 * 1024
