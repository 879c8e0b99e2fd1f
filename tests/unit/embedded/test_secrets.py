"""Secrets are created once, kept, and readable by the owner only."""

from __future__ import annotations

import json
from pathlib import Path

from kommuna.embedded.secrets import load_or_create_passwords, load_or_create_secrets


def test_secrets_stay_the_same_and_are_private(tmp_path: Path) -> None:
    first = load_or_create_secrets(tmp_path / "secrets")
    assert set(first) == {"jwt", "fernet", "api"}
    assert load_or_create_secrets(tmp_path / "secrets") == first
    assert (tmp_path / "secrets/platform.json").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700


def test_a_new_login_gets_a_password_and_old_logins_keep_theirs(tmp_path: Path) -> None:
    path = tmp_path / "secrets/passwords.json"
    first = load_or_create_passwords(path, ["admin", "support"])
    second = load_or_create_passwords(path, ["admin", "support", "fraud"])
    assert {name: second[name] for name in first} == first
    assert len(set(second.values())) == 3
    assert json.loads(path.read_text()) == second
