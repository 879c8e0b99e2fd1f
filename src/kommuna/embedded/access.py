"""`Access`: the addresses of the platform, its logins and their passwords."""

from __future__ import annotations

from dataclasses import dataclass

from kommuna.clients import airflow
from kommuna.embedded.secrets import load_or_create_passwords
from kommuna.embedded.settings import ADMIN, airflow_url, logins, mlflow_url, passwords_file
from kommuna.errors import PlatformFault, nearest
from kommuna.spec.installation import Installation


@dataclass(frozen=True)
class Access:
    """How to reach the platform.

    Attributes:
        airflow: the address of Airflow's server.
        mlflow: the address of the MLflow server.
        logins: teams by login; empty ("") for the admin.
        passwords: passwords by login.
        already_running: whether `up` found the platform running.
    """

    airflow: str
    mlflow: str
    logins: dict[str, str]
    passwords: dict[str, str]
    already_running: bool = False

    @classmethod
    def of(cls, installation: Installation, *, already_running: bool = False) -> Access:
        """Returns the access to a platform. Missing passwords are created."""
        names = logins(installation)
        passwords = load_or_create_passwords(passwords_file(installation), names)
        return cls(airflow_url(installation), mlflow_url(installation), names, passwords, already_running)


def token(access: Access, login: str = ADMIN) -> str:
    """Returns a token for Airflow's REST API.

    Raises:
        PlatformFault: there is no such login, or Airflow refuses it or does not answer.
    """
    if login not in access.passwords:
        raise PlatformFault(
            f"no login '{login}'{nearest(login, access.passwords)}",
            fix="the logins are: " + ", ".join(access.passwords),
        )
    return airflow.login(access.airflow, login, access.passwords[login])
