"""Secrets of the embedded platform: created once, kept in the state folder, readable by the owner only."""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from kommuna.errors import PlatformFault


def load_or_create_secrets(folder: Path) -> dict[str, str]:
    """Returns the platform's own secrets: `jwt`, `fernet` and `api`."""
    return _load_or_create(
        folder / "platform.json",
        {
            "jwt": lambda: secrets.token_urlsafe(48),
            "fernet": lambda: base64.urlsafe_b64encode(os.urandom(32)).decode(),
            "api": lambda: secrets.token_urlsafe(32),
        },
    )


def load_or_create_passwords(path: Path, logins: Iterable[str]) -> dict[str, str]:
    """Returns a password for each login, from the file that Airflow's SimpleAuthManager reads."""
    return _load_or_create(path, dict.fromkeys(logins, lambda: secrets.token_urlsafe(9)))


def _load_or_create(path: Path, makers: Mapping[str, Callable[[], str]]) -> dict[str, str]:
    """Reads these names from the file; creates and adds missing ones, replacing the file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    try:
        known: dict[str, str] = json.loads(path.read_text()) if path.exists() and path.stat().st_size else {}
    except ValueError:
        raise PlatformFault(f"{path.name} is not JSON", where=str(path), fix="delete it: it is created anew") from None
    missing = {name: make() for name, make in makers.items() if name not in known}
    if missing:
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.touch(mode=0o600)
        partial.write_text(json.dumps(known | missing) + "\n")
        partial.replace(path)
    return {name: (known | missing)[name] for name in makers}
