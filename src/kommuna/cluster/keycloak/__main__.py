"""Writes the platform's client and the teams' rights to Keycloak: `python -m kommuna.cluster.keycloak`."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from kommuna.cluster.keycloak.realm import Realm
from kommuna.errors import KommunaError
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
    try:
        main()
    except KommunaError as error:
        print(error, file=sys.stderr)  # noqa: T201
        sys.exit(error.exit_code)
