"""Creates the release's Secrets, idempotently: `python -m kommuna.cluster.credentials platform|teams`.

The chart's templates neither contain nor generate secrets, so two renders of the same values are equal. `platform` runs
before the rest of a release, as a hook: it fails if a Secret that the values name is missing, and creates those of the
control plane. `teams` runs with the rest, once the teams' namespaces exist: it creates in each what its pods need.
Existing entries of a Secret are kept, and Helm removes none of the Secrets. Only `llm`, with the API keys of LLMs, has
exactly the entries that the values name: a team that may no longer use an LLM loses its key.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import secrets
import string
import sys
import time
from collections.abc import Iterable, Mapping

from pydantic import Field

from kommuna.cluster.certificates import Pair, is_signed_by, new_authority, new_certificate
from kommuna.cluster.program import exit_with
from kommuna.cluster.vault import KubernetesSecrets, Secret, Vault
from kommuna.errors import SpecError
from kommuna.spec.base import Spec
from kommuna.spec.llm import SecretKey
from kommuna.spec.pod import LLM_SECRET

STORE = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_SUPERUSER = b"postgresql+psycopg2://kommuna:"
_GIT = re.compile(r"AIRFLOW_CONN_.*__GIT")
SETTLE_SECONDS = 10  # Helm removes the Secrets of an older chart shortly after it has created this job


class TeamCredentials(Spec):
    """A team's namespace, and the Secrets of the control plane's namespace: the store's is copied to it."""

    namespace: str
    store_secret: str = ""
    registry_secret: str = ""
    repository_secret: str = ""
    llm: dict[str, SecretKey] = Field(default_factory=dict)  # by the environment variable that each fills


class Wanted(Spec):
    """The chart's values about Secrets, as its template renders them."""

    release: str
    namespace: str
    logins: tuple[str, ...]
    database_server: str = ""  # HOST:PORT of the bundled database; empty if there is none
    database_secret: str = ""
    passwords_secret: str = ""
    store_secret: str = ""
    mlflow_secret: str = ""
    auth_secret: str = ""
    auth_admin_secret: str = ""
    auth_ca_secret: str = ""
    pull_secrets: tuple[str, ...] = ()
    llm: dict[str, SecretKey] = Field(default_factory=dict)  # by the endpoint's name
    teams: dict[str, TeamCredentials]

    def named(self) -> Iterable[tuple[str, str, tuple[str, ...]]]:
        """Yields every Secret that the values name: the values' key, its name, and its required entries."""
        yield "database_secret", self.database_secret, ("airflow", "mlflow")
        yield "passwords_secret", self.passwords_secret, ("passwords.json",)
        yield "store_secret", self.store_secret, STORE
        yield "mlflow.secret", self.mlflow_secret, STORE
        yield "auth.secret", self.auth_secret, ("client-secret",)
        yield "auth.admin_secret", self.auth_admin_secret, ("client-id", "client-secret")
        yield "auth.ca_secret", self.auth_ca_secret, ("ca.crt",)
        for endpoint, secret in self.llm.items():
            yield f"llm.{endpoint}.secret", secret.name, (secret.key,)
        for name in self.pull_secrets:
            yield "images.pull_secrets", name, (".dockerconfigjson",)
        for team, spec in self.teams.items():
            yield f"teams.{team}.store_secret", spec.store_secret, STORE
            yield f"teams.{team}.registry_secret", spec.registry_secret, STORE
            yield f"teams.{team}.repository.secret", spec.repository_secret, ("connection",)


def refuse_missing(wanted: Wanted, vault: Vault) -> None:
    """Checks that each Secret that the values name exists.

    Raises:
        SpecError: one is missing, or lacks an entry; the error names the values' key.
    """
    for key, name, entries in wanted.named():
        if not name:
            continue
        found = vault.read(wanted.namespace, name)
        if found is None:
            raise SpecError(f"{key}: there is no Secret '{name}' in namespace {wanted.namespace}: create it first")
        for entry in entries:
            if entry not in found.data:
                raise SpecError(f"{key}: the Secret '{name}' in namespace {wanted.namespace} has no key '{entry}'")


def make_platforms(wanted: Wanted, vault: Vault) -> None:
    """Creates the Secrets of the control plane: keys, passwords, database, parser authority, parser tokens."""
    here, release = wanted.namespace, wanted.release
    lengths = {"jwt": 48, "api": 48, "mlflow-flask": 48, "mlflow-admin": 48} | {
        f"mlflow-{team}": 32 for team in wanted.teams
    }
    vault.ensure(
        here,
        f"{release}-keys",
        lambda known: {
            "fernet": base64.urlsafe_b64encode(os.urandom(32)),
            **{name: _random(length) for name, length in lengths.items()},
            **known,
        },
    )
    if wanted.logins and not wanted.passwords_secret:
        vault.ensure(here, f"{release}-passwords", lambda known: _with_passwords(known, wanted.logins))
    if wanted.database_server:
        vault.ensure(here, f"{release}-database", lambda known: _database(known, wanted.database_server))
    vault.ensure(here, f"{release}-parser-authority", lambda known: _authority(known, f"{release}-parsers"))
    for team in wanted.teams:
        vault.ensure(
            here,
            f"{release}-parser-{team}",
            lambda known: {"token": _random(40), **known},
            labels={"kommuna/team": team},
        )


def make_teams(wanted: Wanted, vault: Vault) -> None:
    """Creates the Secrets of each team's namespace: for the image registry, workers, LLMs, and the parser."""
    here, release = wanted.namespace, wanted.release
    keys = _entries(vault, here, f"{release}-keys")
    authority = _entries(vault, here, f"{release}-parser-authority")
    signer = Pair(authority["ca.crt"], authority["ca.key"])
    for team, spec in wanted.teams.items():
        labels = {"kommuna/team": team}
        for name in wanted.pull_secrets:
            _copy(vault, here, spec.namespace, name, labels)
        credentials = {"MLFLOW_TRACKING_USERNAME": team.encode(), "MLFLOW_TRACKING_PASSWORD": keys[f"mlflow-{team}"]}
        if spec.store_secret:
            store = _entries(vault, here, spec.store_secret)
            credentials |= {name: store[name] for name in STORE}
        vault.ensure(spec.namespace, "worker", lambda known, made=credentials: _worker(known, made), labels=labels)  # type: ignore[misc]
        llm_keys = {variable: _entries(vault, here, given.name)[given.key] for variable, given in spec.llm.items()}
        if llm_keys or vault.read(spec.namespace, LLM_SECRET):  # a team that is no longer named loses its keys
            vault.ensure(spec.namespace, LLM_SECRET, lambda _known, made=llm_keys: made, labels=labels)  # type: ignore[misc]
        token = _entries(vault, here, f"{release}-parser-{team}")["token"]
        vault.ensure(
            spec.namespace,
            "parser",
            lambda known, host=f"parser.{spec.namespace}.svc", token=token: _parser(known, host, token, signer),  # type: ignore[misc]
            labels=labels,
        )


def _random(length: int) -> bytes:
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(length)).encode()


def _with_passwords(known: Mapping[str, bytes], logins: Iterable[str]) -> dict[str, bytes]:
    """Adds a password for each new login. Passwords of absent logins are kept for their return."""
    passwords = json.loads(known.get("passwords.json", b"{}"))
    made = {login: _random(16).decode() for login in logins if login not in passwords}
    return {**known, "passwords.json": json.dumps(passwords | made, sort_keys=True).encode()} if made else {**known}


def _database(known: Mapping[str, bytes], server: str) -> dict[str, bytes]:
    """Makes the URL of each database with its own role, and the superuser's password.

    URLs of an earlier chart name the superuser, and are replaced.
    """
    urls = {
        name: f"postgresql+psycopg2://{name}:{_random(32).decode()}@{server}/{name}".encode()
        for name in ("airflow", "mlflow")
        if known.get(name, _SUPERUSER).startswith(_SUPERUSER)
    }
    return {"password": _random(32), **known, **urls}


def _authority(known: Mapping[str, bytes], name: str) -> dict[str, bytes]:
    if "ca.crt" in known and "ca.key" in known:
        return {**known}
    made = new_authority(name)
    return {"ca.crt": made.certificate, "ca.key": made.key}


def _worker(known: Mapping[str, bytes], made: Mapping[str, bytes]) -> dict[str, bytes]:
    """Replaces a team's credentials, and keeps entries that somebody else has added, but for a Git credential."""
    others = {key: value for key, value in known.items() if key not in STORE and not _GIT.fullmatch(key)}
    return others | dict(made)


def _parser(known: Mapping[str, bytes], host: str, token: bytes, authority: Pair) -> dict[str, bytes]:
    digest = hashlib.sha256(token).hexdigest().encode()
    if {"tls.crt", "tls.key"} <= known.keys() and is_signed_by(known["tls.crt"], authority.certificate):
        return {**known, "token-sha256": digest}
    made = new_certificate(host, authority)
    return {**known, "tls.crt": made.certificate, "tls.key": made.key, "token-sha256": digest}


def _require(vault: Vault, namespace: str, name: str) -> Secret:
    found = vault.read(namespace, name)
    if found is None:
        raise SpecError(f"no Secret '{name}' in namespace {namespace}", fix="create it, or upgrade again")
    return found


def _entries(vault: Vault, namespace: str, name: str) -> dict[str, bytes]:
    return _require(vault, namespace, name).data


def _copy(vault: Vault, source: str, target: str, name: str, labels: Mapping[str, str]) -> None:
    """Copies a Secret with its type, replacing an older copy."""
    found = _require(vault, source, name)
    vault.ensure(target, name, lambda _known: found.data, kind=found.kind, labels=labels)


def main() -> None:
    """Creates the Secrets of one part."""
    wanted = Wanted.read(json.loads(os.environ["KOMMUNA_SECRETS"]), where="the chart's values")
    vault = Vault(KubernetesSecrets())
    if sys.argv[1] == "platform":
        refuse_missing(wanted, vault)
        make_platforms(wanted, vault)
        return
    make_teams(wanted, vault)
    if vault.adopted:
        time.sleep(SETTLE_SECONDS)
        make_teams(wanted, vault)


if __name__ == "__main__":
    exit_with(main)
