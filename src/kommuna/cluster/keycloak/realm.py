"""A realm of Keycloak, by its admin API: the platform's client, groups and rights, idempotently."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

import requests

from kommuna.clients.http import Bearer, Server
from kommuna.cluster.keycloak import rights
from kommuna.errors import PlatformFault, SpecError
from kommuna.spec.auth import Auth
from kommuna.spec.team import Team

_EVERY = {"max": -1, "first": 0}


class Realm:
    """A realm, as a service account that may manage its clients, authorization and users.

    Args:
        auth: Keycloak's address, the realm and the platform's client.
        login: the id and the secret of the service account's client.

    Raises:
        PlatformFault: Keycloak refuses the login.
    """

    def __init__(self, auth: Auth, login: tuple[str, str]) -> None:
        self._auth = auth
        answer = Server(auth.url).request(
            "POST",
            f"/realms/{quote(auth.realm)}/protocol/openid-connect/token",
            data={"grant_type": "client_credentials", "client_id": login[0], "client_secret": login[1]},
        )
        token = _checked(answer, f"log in as '{login[0]}'").json()["access_token"]
        self._server = Server(f"{auth.url.rstrip('/')}/admin/realms/{quote(auth.realm)}", auth=Bearer(token))

    def write(self, teams: Mapping[str, Team], *, url: str, secret: str) -> None:
        """Makes the client, groups and rights of the teams, and removes those of teams that are gone.

        Args:
            teams: the platform's teams.
            url: Airflow's address, as people type it.
            secret: the client's secret.

        Raises:
            SpecError: the values name a group that the realm does not have.
            PlatformFault: Keycloak refuses a request, or the realm does not limit sign-ins.
        """
        if not self._call("GET", "").get("bruteForceProtected"):
            raise PlatformFault(
                f"realm '{self._auth.realm}' does not limit the rate of failed sign-ins",
                where="Keycloak",
                fix="switch on brute force detection in the realm's security defenses",
            )
        for path, key in rights.named_groups(self._auth, teams).items():
            if self._group(path) is None:
                raise SpecError(
                    f"{key}: realm '{self._auth.realm}' has no group '{path}'",
                    where="the chart's values",
                    fix="name a group of the realm; one of the bank's directory is there after its synchronisation",
                )
        self._write_groups(teams)
        client = self._write_client(url.rstrip("/"), secret)
        self._write_rights(f"/clients/{client}/authz/resource-server", rights.settings(self._auth, teams))

    def _write_groups(self, teams: Iterable[str]) -> None:
        for path in rights.own_groups(self._auth, teams):
            parent, _, name = path.rpartition("/")
            if self._group(path) is None:
                above = self._group(parent) if parent else None
                self._call("POST", f"/groups/{above['id']}/children" if above else "/groups", json={"name": name})
        top = self._group(f"/{self._auth.client}")
        for child in self._call("GET", f"/groups/{top['id']}/children", params=_EVERY) if top else ():
            if child["name"] not in teams:
                self._call("DELETE", f"/groups/{child['id']}")

    def _group(self, path: str) -> dict[str, Any] | None:
        answer = self._server.request("GET", f"/group-by-path{quote(path)}")
        return None if answer.status_code == 404 else _checked(answer, f"read group {path}").json()

    def _write_client(self, url: str, secret: str) -> str:
        client = {
            "clientId": self._auth.client,
            "secret": secret,
            "publicClient": False,
            "standardFlowEnabled": True,
            "implicitFlowEnabled": False,
            "directAccessGrantsEnabled": True,
            "serviceAccountsEnabled": True,
            "authorizationServicesEnabled": True,
            "fullScopeAllowed": False,
            "redirectUris": [f"{url}/auth/login_callback"],
            "webOrigins": [url],
            "attributes": {"post.logout.redirect.uris": f"{url}/auth/logout_callback"},
        }
        found = self._call("GET", "/clients", params={"clientId": self._auth.client})
        if not found:
            self._call("POST", "/clients", json=client)
            found = self._call("GET", "/clients", params={"clientId": self._auth.client})
        else:
            self._call("PUT", f"/clients/{found[0]['id']}", json=client)
        return str(found[0]["id"])

    def _write_rights(self, place: str, settings: dict[str, Any]) -> None:
        """Imports the settings, after it has removed what is not in them: they are the only rights."""
        for kind, key in (("policy", "policies"), ("resource", "resources")):
            wanted = {one["name"] for one in settings[key]}
            for one in self._call("GET", f"{place}/{kind}", params=_EVERY):
                if one["name"] not in wanted:
                    self._remove(f"{place}/{kind}/{one.get('id') or one['_id']}")
        self._call("POST", f"{place}/import", json=settings)

    def _remove(self, path: str) -> None:
        answer = self._server.request("DELETE", path)
        if answer.status_code != 404:  # Keycloak removes a permission with its last policy
            _checked(answer, f"remove {path}")

    def _call(self, method: str, path: str, **options: Any) -> Any:
        answer = _checked(
            self._server.request(method, path, **{"timeout": 120, **options}), f"{method} {path or 'realm'}"
        )
        return answer.json() if answer.content and method == "GET" else None


def _checked(answer: requests.Response, what: str) -> requests.Response:
    if not answer.ok:
        raise PlatformFault(
            f"Keycloak does not let the job {what}: {answer.status_code} {answer.text[:300]}",
            where="Keycloak",
            fix="check auth.url, auth.realm, and the roles of the service account in auth.admin_secret",
        )
    return answer
