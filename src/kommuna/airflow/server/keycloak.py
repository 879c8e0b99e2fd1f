"""The auth manager of a platform with Keycloak: the provider's, with all rights of a person asked in one request.

The provider asks Keycloak for each DAG, pool or variable of a list. Here a person's rights are asked once and kept for
some seconds, and every decision looks them up. `kommuna.cluster.keycloak.rights` has the table of roles.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow.api_fastapi.auth.managers.base_auth_manager import BaseAuthManager
from airflow.api_fastapi.common.types import MenuItem
from airflow.providers.common.compat.sdk import conf
from airflow.providers.keycloak.auth_manager.keycloak_auth_manager import TEAM_SCOPED_RESOURCES, KeycloakAuthManager
from airflow.providers.keycloak.auth_manager.resources import KeycloakResource

from kommuna.errors import PlatformFault

if TYPE_CHECKING:
    from airflow.providers.keycloak.auth_manager.user import KeycloakAuthManagerUser

KEPT_SECONDS = 30.0  # a removed member keeps the rights for so long
MOST_PEOPLE = 4096
_REFUSED = (400, 401, 403)  # the token is not valid any more, or holds no right

Rights = frozenset[tuple[str, str]]  # resource and method, such as ("Dag:support", "GET")


class RightsCache:
    """Keeps people's rights for some seconds; requests that arrive together ask once.

    Args:
        ask: returns the rights of an access token.
        seconds: how long they are kept, at most to the token's own end.
        most: the number of tokens that are kept.
    """

    def __init__(self, ask: Callable[[str], Rights], *, seconds: float = KEPT_SECONDS, most: int = MOST_PEOPLE) -> None:
        self._ask, self._seconds, self._most = ask, seconds, most
        self._kept: OrderedDict[bytes, tuple[float, Rights]] = OrderedDict()
        self._asking: dict[bytes, threading.Lock] = {}
        self._lock = threading.Lock()

    def of(self, token: str) -> Rights:
        """Returns the rights of an access token."""
        key = hashlib.sha256(token.encode()).digest()
        found = self._kept.get(key)
        if found is not None and time.time() < found[0]:
            return found[1]
        with self._lock:
            asking = self._asking.setdefault(key, threading.Lock())
        with asking:
            found = self._kept.get(key)
            if found is not None and time.time() < found[0]:
                return found[1]
            try:
                until = min(time.time() + self._seconds, _end(token))
                rights = self._ask(token) if until > time.time() else Rights()
                with self._lock:
                    self._kept[key] = (until, rights)
                    self._kept.move_to_end(key)
                    while len(self._kept) > self._most:
                        self._kept.popitem(last=False)
                return rights
            finally:
                with self._lock:
                    self._asking.pop(key, None)


def _end(token: str) -> float:
    """Returns when an access token ends; the past if it is not a token. Keycloak itself judges its signature."""
    try:
        payload = token.split(".")[1]
        return float(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["exp"])
    except (IndexError, KeyError, TypeError, ValueError):
        return 0.0


class TeamKeycloakAuthManager(KeycloakAuthManager):
    """Decides by a person's rights in Keycloak, asked once per `KEPT_SECONDS`."""

    def __init__(self) -> None:
        super().__init__()
        self._rights = RightsCache(self._ask)

    def _ask(self, token: str) -> Rights:
        """Asks Keycloak for all rights that the bearer of an access token has now."""
        section = "keycloak_auth_manager"
        client = conf.get(section, "client_id")
        answer = self.http_session.post(
            self._get_token_url(conf.get(section, "server_url"), conf.get(section, "realm")),
            data={
                "grant_type": "urn:ietf:params:oauth:grant-type:uma-ticket",
                "audience": client,
                "response_mode": "permissions",
            },
            headers=self._get_headers(token),
            timeout=10,
        )
        if answer.status_code in _REFUSED:
            return Rights()
        if answer.status_code != 200:
            raise PlatformFault(f"Keycloak answers {answer.status_code}", where="Keycloak", fix="see Keycloak's log")
        return Rights((one["rsname"], scope) for one in answer.json() for scope in one.get("scopes", ()))

    def _is_authorized(
        self,
        *,
        method: Any,
        resource_type: KeycloakResource,
        user: KeycloakAuthManagerUser,
        resource_id: str | None = None,
        team_name: str | None = None,
        attributes: dict[str, str | None] | None = None,
    ) -> bool:
        owned = bool(team_name) and resource_type in TEAM_SCOPED_RESOURCES
        name = f"{resource_type.value}:{team_name}" if owned else resource_type.value
        scope = "LIST" if method == "GET" and not resource_id else method
        return (name, scope) in self._rights.of(user.access_token)

    def filter_authorized_menu_items(
        self, menu_items: list[MenuItem], *, user: KeycloakAuthManagerUser
    ) -> list[MenuItem]:
        """Returns the pages that the person's menu has: those about the platform are for its administrators."""
        rights = self._rights.of(user.access_token)
        platforms = {MenuItem.CONFIG, MenuItem.JOBS, MenuItem.PLUGINS, MenuItem.PROVIDERS}
        if ("View", "GET") not in rights:
            return []
        return [item for item in menu_items if item not in platforms or ("AdminView", "GET") in rights]

    def _get_teams(self) -> set[str]:
        """Returns no teams: the release makes Keycloak's from the same list as the database's.

        Airflow asks at its start, which so does not need Keycloak.
        """
        return set()

    # The provider asks once per id, in threads. With the rights at hand, Airflow's own loops are faster.
    filter_authorized_connections = BaseAuthManager.filter_authorized_connections
    filter_authorized_dag_ids = BaseAuthManager.filter_authorized_dag_ids
    filter_authorized_pools = BaseAuthManager.filter_authorized_pools
    filter_authorized_variables = BaseAuthManager.filter_authorized_variables
    batch_is_authorized_connection = BaseAuthManager.batch_is_authorized_connection
    batch_is_authorized_dag = BaseAuthManager.batch_is_authorized_dag
    batch_is_authorized_pool = BaseAuthManager.batch_is_authorized_pool
    batch_is_authorized_variable = BaseAuthManager.batch_is_authorized_variable
