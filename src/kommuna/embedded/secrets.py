"""Secrets of the embedded platform: made once, kept in the state folder, readable by the owner only."""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from kommuna.errors import PlatformFault


def kept_secrets(folder: Path) -> dict[str, str]:
    """The platform's own secrets: `jwt`, `fernet` and `api`."""
    return _kept(
        folder / "platform.json",
        {
            "jwt": lambda: secrets.token_urlsafe(48),
            "fernet": lambda: base64.urlsafe_b64encode(os.urandom(32)).decode(),
            "api": lambda: secrets.token_urlsafe(32),
        },
    )


def kept_passwords(path: Path, logins: Iterable[str]) -> dict[str, str]:
    """A password for each login, in the file that Airflow's SimpleAuthManager reads."""
    return _kept(path, dict.fromkeys(logins, lambda: secrets.token_urlsafe(9)))


def _kept(path: Path, makers: Mapping[str, Callable[[], str]]) -> dict[str, str]:
    """What the file holds of these names; what it lacks is made and added, and the file replaced in one go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    try:
        known: dict[str, str] = json.loads(path.read_text()) if path.exists() and path.stat().st_size else {}
    except ValueError:
        raise PlatformFault(f"{path.name} is no JSON", where=str(path), fix="delete it: it is made anew") from None
    missing = {name: make() for name, make in makers.items() if name not in known}
    if missing:
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        partial.touch(mode=0o600)
        partial.write_text(json.dumps(known | missing) + "\n")
        partial.replace(path)
    return {name: (known | missing)[name] for name in makers}
