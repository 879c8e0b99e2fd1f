"""`Access`: the addresses of the platform, and who may log in with which password."""

from __future__ import annotations

from dataclasses import dataclass

from kommuna.clients import airflow
from kommuna.embedded.secrets import kept_passwords
from kommuna.embedded.settings import ADMIN, airflow_url, logins, mlflow_url, passwords_file
from kommuna.errors import PlatformFault, nearest
from kommuna.spec.installation import Installation


@dataclass(frozen=True)
class Access:
    """How to reach the platform.

    Attributes:
        airflow: address of Airflow's server.
        mlflow: address of the MLflow server.
        logins: login to team; the admin has none ("").
        passwords: login to password.
        already_running: True where `up` found the platform running.
    """

    airflow: str
    mlflow: str
    logins: dict[str, str]
    passwords: dict[str, str]
    already_running: bool = False

    @classmethod
    def of(cls, installation: Installation, *, already_running: bool = False) -> Access:
        """The access to a platform; passwords that do not exist yet are made."""
        names = logins(installation)
        passwords = kept_passwords(passwords_file(installation), names)
        return cls(airflow_url(installation), mlflow_url(installation), names, passwords, already_running)


def token(access: Access, login: str = ADMIN) -> str:
    """A token for Airflow's REST API.

    Raises:
        PlatformFault: no such login, or Airflow does not answer or refuses.
    """
    if login not in access.passwords:
        raise PlatformFault(
            f"no login '{login}'{nearest(login, access.passwords)}", fix="logins are: " + ", ".join(access.passwords)
        )
    return airflow.login(access.airflow, login, access.passwords[login])
