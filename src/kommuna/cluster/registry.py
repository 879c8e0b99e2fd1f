"""Creates a workspace, a user and a role per team in MLflow, idempotently: `python -m kommuna.cluster.registry`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from kommuna.clients.mlflow import MlflowApi
from kommuna.spec.installation import find_installation

ROLE = "team"


def main() -> None:
    """Creates what every team needs in MLflow, once its server answers."""
    from mlflow.server.auth.client import AuthServiceClient

    installation = find_installation(Path.cwd())
    url = installation.platform.mlflow
    keys = Path(os.environ["KOMMUNA_KEYS"])
    os.environ.update(
        MLFLOW_TRACKING_USERNAME="admin", MLFLOW_TRACKING_PASSWORD=(keys / "mlflow-admin").read_text().strip()
    )
    api = MlflowApi(url)
    api.wait()
    client = AuthServiceClient(url)
    for team in installation.platform.teams:
        api.make_workspace(team)
        make_user(client, team, (keys / f"mlflow-{team}").read_text().strip())


def make_user(client: Any, team: str, password: str) -> None:
    """Creates the team's user, and its role with all rights in the team's workspace and none in others.

    Args:
        client: MLflow's `AuthServiceClient`, logged in as the admin.
        team: the team's name, which is also the user's name.
        password: the user's password.
    """
    _create(client.create_user, team, password)
    client.update_user_password(team, password)
    roles = {role.name: role.id for role in client.list_roles(team)}
    role = roles[ROLE] if ROLE in roles else client.create_role(team, ROLE).id
    if not client.list_role_permissions(role):
        client.add_role_permission(role, "workspace", "*", "USE")
    if role not in [known.id for known in client.list_user_roles(team)]:
        client.assign_role(team, role)


def _create(make: Any, *arguments: str) -> None:
    """Creates something unless it exists already."""
    from mlflow.exceptions import MlflowException

    try:
        make(*arguments)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


if __name__ == "__main__":
    main()
