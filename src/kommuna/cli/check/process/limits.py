"""What `kommuna check` lets one file use."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one file may use; the defaults are the platform's own.

    Attributes:
        seconds: to import the file; as long again may pass until its DAGs are judged.
        memory: bytes beyond what Airflow itself takes.
    """

    seconds: float = 30.0
    memory: int = 512 * 1024 * 1024
