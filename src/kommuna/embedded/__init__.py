"""The embedded platform: Airflow in multi-team mode and MLflow on one machine, under supervisord.

One trust domain: teams are kept from each other's mistakes here, not from each other's malice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kommuna.embedded.access import Access as Access
    from kommuna.embedded.lifecycle import Embedded as Embedded
    from kommuna.embedded.supervision import ProcessState as ProcessState

__all__ = ["Access", "Embedded", "ProcessState"]

_HOMES = {"Access": "access", "Embedded": "lifecycle", "ProcessState": "supervision"}


def __getattr__(name: str) -> Any:
    """Public names, imported when asked for: each supervised process passes through this package as it starts."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(name)
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
