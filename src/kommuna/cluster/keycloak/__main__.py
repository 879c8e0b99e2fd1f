"""Writes the platform's client and the teams' rights to Keycloak: `python -m kommuna.cluster.keycloak`."""

from __future__ import annotations

import json
import os
from pathlib import Path

from kommuna.cluster.keycloak.realm import Realm
from kommuna.cluster.program import exit_with
from kommuna.spec.auth import Auth
from kommuna.spec.installation import find_installation


def main() -> None:
    """Writes them, by the chart's values and the mounted Secrets."""
    auth = Auth.read(json.loads(os.environ["KOMMUNA_AUTH"]), where="the chart's values: auth")
    secrets = Path(os.environ["KOMMUNA_AUTH_SECRETS"])

    def entry(secret: str, key: str) -> str:
        return (secrets / secret / key).read_text().strip()

    realm = Realm(auth, (entry("admin", "client-id"), entry("admin", "client-secret")))
    teams = find_installation(Path.cwd()).platform.teams
    realm.write(teams, url=os.environ["KOMMUNA_AIRFLOW"], secret=entry("client", "client-secret"))


if __name__ == "__main__":
    exit_with(main)
