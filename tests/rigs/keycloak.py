"""A real Keycloak on loopback, and an Airflow API server whose people log in by it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from re import search
from typing import Any

import requests

from kommuna.clients.airflow import login as token_of
from kommuna.cluster.keycloak.realm import Realm
from kommuna.spec.auth import Auth
from kommuna.spec.team import Team
from kommuna.waiting import wait_until

ARTIFACT = "org.keycloak:keycloak-quarkus-dist:26.4.5:zip"
SHA256 = "72f73642a2c36de797d51b4b2b342d4a49f6e5832af10aa470cd123627bd80b3"
_CACHES = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
CACHE = Path(os.environ.get("KOMMUNA_CACHE", _CACHES / "kommuna")) / "keycloak"  # as of the test cluster
CLIENT_SECRET = "the-clients-secret"
ADMIN = ("chart", "the-charts-secret")
ROOT = Path(__file__).resolve().parents[2]


class Unavailable(Exception):
    """Keycloak cannot be had on this machine; the text says why."""


def distribution() -> Path:
    """Returns Keycloak's folder, from Maven's own client and made ready once per machine (160 MB, a minute).

    Raises:
        Unavailable: Java or Maven is missing, or Maven does not find it.
    """
    home = CACHE / SHA256[:16]
    if home.is_dir():
        return home
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise Unavailable(
                f"there is no `{program}`: install Java 17 and Maven (Debian: default-jre-headless maven)"
            )
    partial = CACHE / f"partial-{os.getpid()}"
    partial.mkdir(parents=True)
    try:
        copy = ["mvn", "-q", "dependency:copy", f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={partial}"]
        done = subprocess.run(copy, cwd=partial, capture_output=True, text=True, check=False)
        found = [*partial.glob("*.zip")]
        if done.returncode or not found:
            raise Unavailable(f"Maven does not have {ARTIFACT}: {done.stdout[-500:]}")
        digest = hashlib.sha256(found[0].read_bytes()).hexdigest()
        if digest != SHA256:
            raise Unavailable(f"{ARTIFACT} has the hash {digest}, not {SHA256}")
        with zipfile.ZipFile(found[0]) as archive:
            archive.extractall(partial)
        (unpacked,) = (path for path in partial.iterdir() if path.is_dir())
        subprocess.run(["bash", unpacked / "bin/kc.sh", "build", "--db=dev-mem"], capture_output=True, check=True)
        if not home.is_dir():  # another process may have been faster
            unpacked.rename(home)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return home


@dataclass
class Keycloak:
    """A running server with an empty realm `bank`, and a service account for the chart's job."""

    url: str
    _admin: requests.Session

    def auth(self, **fields: Any) -> Auth:
        """Returns the chart's values for it."""
        named = {"secret": "s", "admin_secret": "a"}
        return Auth.model_validate({"kind": "keycloak", "url": self.url, "realm": "bank", **named, **fields})

    def realm(self, **fields: Any) -> Realm:
        """Returns the realm, as the chart's job sees it."""
        return Realm(self.auth(**fields), ADMIN)

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Calls the admin API as the server's administrator."""
        self._login()
        answer = self._admin.request(method, f"{self.url}/admin/realms{path}", timeout=60, **options)
        assert answer.ok, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if method == "GET" else answer.headers.get("Location", "").rpartition("/")[2]

    def make_person(self, login: str, *groups: str) -> None:
        """Makes a person, with the login as the password, in groups by their paths."""
        person = {
            "username": login, "enabled": True, "email": f"{login}@bank.test", "emailVerified": True, "firstName": login,
            "lastName": "L", "credentials": [{"type": "password", "value": login, "temporary": False}],
        }  # fmt: skip
        made = self.call("POST", "/bank/users", json=person)
        for group in groups:
            self.call("PUT", f"/bank/users/{made}/groups/{self.call('GET', f'/bank/group-by-path{group}')['id']}")

    def leave(self, login: str, group: str) -> None:
        """Takes a person out of a group."""
        (person,) = self.call("GET", "/bank/users", params={"username": login, "exact": True})
        self.call(
            "DELETE", f"/bank/users/{person['id']}/groups/{self.call('GET', f'/bank/group-by-path{group}')['id']}"
        )

    def _login(self) -> None:
        body = {"grant_type": "password", "client_id": "admin-cli", "username": "admin", "password": "admin"}
        answer = requests.post(f"{self.url}/realms/master/protocol/openid-connect/token", data=body, timeout=60)
        self._admin.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"

    def make_realm(self) -> None:
        """Makes the realm and the service account."""
        self.call("POST", "", json={"realm": "bank", "enabled": True, "bruteForceProtected": True})
        client = {
            "clientId": ADMIN[0],
            "secret": ADMIN[1],
            "serviceAccountsEnabled": True,
            "standardFlowEnabled": False,
        }
        made = self.call("POST", "/bank/clients", json=client)
        account = self.call("GET", f"/bank/clients/{made}/service-account-user")["id"]
        (management,) = self.call("GET", "/bank/clients", params={"clientId": "realm-management"})
        wanted = ("manage-clients", "manage-authorization", "manage-users", "view-realm")
        roles = [self.call("GET", f"/bank/clients/{management['id']}/roles/{role}") for role in wanted]
        self.call("POST", f"/bank/users/{account}/role-mappings/clients/{management['id']}", json=roles)


@contextmanager
def keycloak(folder: Path, port: int) -> Iterator[Keycloak]:
    """Runs a server with nothing but the realm `bank`, for as long as the block lasts."""
    command = [
        "bash", distribution() / "bin/kc.sh", "start", "--optimized", "--http-enabled=true", "--hostname-strict=false",
        "--http-host=127.0.0.1", f"--http-port={port}",
    ]  # fmt: skip
    admin = {"KC_BOOTSTRAP_ADMIN_USERNAME": "admin", "KC_BOOTSTRAP_ADMIN_PASSWORD": "admin"}
    with (folder / "keycloak.log").open("w") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **admin, "KC_LOG_LEVEL": "warn"})
    try:
        made = Keycloak(f"http://127.0.0.1:{port}", requests.Session())
        _wait(f"{made.url}/realms/master", server, folder / "keycloak.log")
        made.make_realm()
        yield made
    finally:
        _end(server)


@dataclass
class Airflow:
    """An API server; each person is a session that logged in through the pages."""

    url: str

    def login(self, login: str, password: str | None = None) -> requests.Session:
        """Logs in as a browser does: follows the redirect to Keycloak, and sends its form."""
        session = requests.Session()
        page = session.get(f"{self.url}/auth/login", timeout=60)
        for cookie in session.cookies:
            cookie.secure = False  # Keycloak's cookies are for HTTPS; browsers except loopback
        form = search(r'<form[^>]*action="([^"]+)"', page.text)
        assert form, page.text[:500]
        body = {"username": login, "password": password or login}
        session.post(unescape(form[1]), data=body, timeout=60)
        return session

    def token(self, login: str) -> str:
        """Returns a token for scripts, by password."""
        return token_of(self.url, login, login)


@contextmanager
def airflow(folder: Path, port: int, settings: dict[str, str], fill: str) -> Iterator[Airflow]:
    """Runs an API server over a database that the Python text `fill` has filled."""
    url = f"http://127.0.0.1:{port}"
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "KOMMUNA"))}
    environment = {
        **kept,
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__MULTI_TEAM": "True",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "src/kommuna/airflow/plugins"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db?timeout=60",
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": "s" * 64,
        "AIRFLOW__API__SECRET_KEY": "k" * 32,
        "KOMMUNA_PLATFORM": str(folder / "kommuna.yaml"),
        **settings,
    }
    filled = subprocess.run([sys.executable, "-c", fill], env=environment, capture_output=True, text=True, check=False)
    assert filled.returncode == 0, filled.stderr[-3000:]
    command = [str(Path(sys.executable).with_name("airflow")), "api-server", "--port", str(port), "--host", "127.0.0.1"]
    with (folder / "api-server.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        _wait(f"{url}/api/v2/version", server, folder / "api-server.log")
        yield Airflow(url)
    finally:
        _end(server)


def keycloak_settings(auth: Auth) -> dict[str, str]:
    """Returns Airflow's settings, as the chart's templates make them."""
    return {
        "AIRFLOW__CORE__AUTH_MANAGER": "kommuna.airflow.server.keycloak.TeamKeycloakAuthManager",
        "AIRFLOW__KEYCLOAK_AUTH_MANAGER__SERVER_URL": auth.url,
        "AIRFLOW__KEYCLOAK_AUTH_MANAGER__REALM": auth.realm,
        "AIRFLOW__KEYCLOAK_AUTH_MANAGER__CLIENT_ID": auth.client,
        "AIRFLOW__KEYCLOAK_AUTH_MANAGER__CLIENT_SECRET": CLIENT_SECRET,
    }


def teams_of(*names: str) -> dict[str, Team]:
    """Returns teams by name."""
    return {name: Team.model_validate({"bundle": f"dags/{name}"}) for name in names}


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    def serves() -> bool:
        assert server.poll() is None, log.read_text()[-3000:]
        try:
            return requests.get(url, timeout=5).status_code < 500
        except requests.RequestException:
            return False

    wait_until(f"{url} answers", serves, seconds=150, every=0.5)


def _end(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(timeout=20)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()
