"""The release's Secrets, in an in-memory store: existing entries are kept, missing ones are created."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

import pytest

from kommuna.cluster.credentials import Wanted, make_platforms, make_teams, refuse_missing
from kommuna.cluster.vault import KEEP, Secret, Vault
from kommuna.errors import SpecError
from kommuna.spec.llm import SecretKey

HERE = "control"
STORE = {"AWS_ACCESS_KEY_ID": b"id", "AWS_SECRET_ACCESS_KEY": b"key"}


class Memory:
    """Secrets of a cluster, in a dict; every write has a version of its own."""

    def __init__(self, **there: dict[str, bytes]) -> None:
        self.held = {(HERE, name.replace("_", "-")): Secret(data, version="0") for name, data in there.items()}
        self.writes = 0

    def read(self, namespace: str, name: str) -> Secret | None:
        return self.held.get((namespace, name))

    def create(self, namespace: str, name: str, secret: Secret, labels: Mapping[str, str]) -> bool:
        if (namespace, name) in self.held:
            return False
        self._write(namespace, name, secret)
        return True

    def replace(self, namespace: str, name: str, secret: Secret) -> bool:
        if self.held[namespace, name].version != secret.version:
            return False
        self._write(namespace, name, secret)
        return True

    def _write(self, namespace: str, name: str, secret: Secret) -> None:
        self.writes += 1
        self.held[namespace, name] = dataclasses.replace(secret, version=str(self.writes))

    def data(self, name: str, namespace: str = HERE) -> dict[str, bytes]:
        return self.held[namespace, name].data


def wanted(*teams: str, **options: Any) -> Wanted:
    return Wanted(
        release="k", namespace=HERE, logins=("admin", *teams), database_server="db:5432",
        teams={team: {"namespace": f"k-{team}", "store_secret": f"store-{team}"} for team in teams}, **options,
    )  # fmt: skip


def make(memory: Memory, plan: Wanted) -> Vault:
    vault = Vault(memory)
    refuse_missing(plan, vault)
    make_platforms(plan, vault)
    make_teams(plan, vault)
    return vault


def password_of(memory: Memory, key: str) -> bytes:
    """Returns the superuser's password, or that of the role in a URL."""
    value = memory.data("k-database")[key]
    if key == "password":
        return value
    found = re.fullmatch(rb"postgresql\+psycopg2://(\w+):(\w+)@db:5432/(\w+)", value)
    assert found
    assert found[1] == found[3] == key.encode()
    return found[2]


def test_urls_of_the_superuser_from_an_earlier_chart_are_replaced_once() -> None:
    old = b"postgresql+psycopg2://kommuna:p@db:5432/"
    memory = Memory(
        store_a=STORE, k_database={"password": b"p", "airflow": old + b"airflow", "mlflow": old + b"mlflow"}
    )
    make(memory, wanted("a"))
    assert password_of(memory, "password") == b"p"
    first = [password_of(memory, key) for key in ("airflow", "mlflow")]
    assert len({b"p", *first}) == 3
    make(memory, wanted("a"))
    assert [password_of(memory, key) for key in ("airflow", "mlflow")] == first


def test_a_second_run_changes_nothing() -> None:
    memory = Memory(store_a=STORE)
    make(memory, wanted("a"))
    held, writes = dict(memory.held), memory.writes
    make(memory, wanted("a"))
    assert (memory.held, memory.writes) == (held, writes)


def test_no_two_generated_values_are_equal() -> None:
    memory = Memory(store_a=STORE, store_b=STORE)
    make(memory, wanted("a", "b"))
    made = [*memory.data("k-keys").values(), *json.loads(memory.data("k-passwords")["passwords.json"]).values()]
    made += [memory.data(name)["token"] for name in ("k-parser-a", "k-parser-b")]
    made += [password_of(memory, key) for key in ("password", "airflow", "mlflow")]
    assert len(made) == len(set(made)) == 7 + 3 + 2 + 3
    assert all(len(value) >= 16 for value in made)


def test_secrets_of_an_earlier_chart_keep_their_values_and_are_marked_as_kept() -> None:
    memory = Memory(
        store_a=STORE,
        k_keys={"fernet": b"f", "jwt": b"j", "api": b"a", "mlflow-flask": b"m", "mlflow-admin": b"d", "mlflow-a": b"t"},
        k_passwords={"passwords.json": json.dumps({"admin": "one", "gone": "two"}).encode()},
        k_database={"password": b"p", "airflow": b"postgresql://x", "mlflow": b"postgresql://y"},
        k_parser_a={"token": b"old"},
    )
    before = {name: secret.data for name, secret in memory.held.items()}
    vault = make(memory, wanted("a"))
    for name in ("k-keys", "k-database", "k-parser-a"):
        assert memory.data(name) == before[HERE, name]
    passwords = json.loads(memory.data("k-passwords")["passwords.json"])
    assert (passwords["admin"], passwords["gone"]) == ("one", "two")
    assert "a" in passwords
    assert vault.adopted == 4
    named = {(HERE, "store-a")}
    assert all(secret.annotations == KEEP for name, secret in memory.held.items() if name not in named)


def test_a_team_gets_its_own_credentials_and_no_others() -> None:
    memory = Memory(store_a=STORE, store_b={**STORE, "note": b"not a credential"}, git_b={"connection": b"{}"})
    plan = wanted("a", "b")
    teams = {**plan.teams, "b": plan.teams["b"].model_copy(update={"repository_secret": "git-b"})}
    make(memory, plan.model_copy(update={"teams": teams}))
    keys = memory.data("k-keys")
    mlflow = {"MLFLOW_TRACKING_USERNAME": b"a", "MLFLOW_TRACKING_PASSWORD": keys["mlflow-a"]}
    assert memory.data("worker", "k-a") == STORE | mlflow
    assert memory.data("worker", "k-b") == STORE | {
        "MLFLOW_TRACKING_USERNAME": b"b", "MLFLOW_TRACKING_PASSWORD": keys["mlflow-b"],
    }  # fmt: skip
    token = memory.data("k-parser-a")["token"]
    assert memory.data("parser", "k-a")["token-sha256"] == hashlib.sha256(token).hexdigest().encode()
    assert set(memory.data("parser", "k-a")) == {"tls.crt", "tls.key", "token-sha256"}


def test_a_new_value_of_a_named_secret_is_copied_and_an_obsolete_entry_is_removed() -> None:
    memory = Memory(store_a=STORE)
    make(memory, wanted("a"))
    memory.held[HERE, "store-a"] = Secret({**STORE, "AWS_SECRET_ACCESS_KEY": b"new"})
    worker = memory.held["k-a", "worker"]
    memory.held["k-a", "worker"] = dataclasses.replace(
        worker, data={**worker.data, "OWN": b"stays", "AIRFLOW_CONN_OLD__GIT": b"{}"}
    )
    make(memory, wanted("a"))
    assert memory.data("worker", "k-a")["AWS_SECRET_ACCESS_KEY"] == b"new"
    make(memory, Wanted.read({**wanted("a").model_dump(), "teams": {"a": {"namespace": "k-a"}}}))
    assert set(memory.data("worker", "k-a")) == {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "OWN"}


def test_pull_secrets_are_copied_to_every_team_with_their_type() -> None:
    memory = Memory(store_a=STORE, store_b=STORE)
    login = Secret({".dockerconfigjson": b"{}"}, "kubernetes.io/dockerconfigjson")
    memory.held[HERE, "registry"] = login
    make(memory, wanted("a", "b", pull_secrets=("registry",)))
    for team in ("a", "b"):
        copy = memory.held[f"k-{team}", "registry"]
        assert (copy.data, copy.kind) == (login.data, login.kind)


def test_a_returning_team_keeps_its_credentials() -> None:
    memory = Memory(store_a=STORE, store_b=STORE)
    make(memory, wanted("a", "b"))
    before = dict(memory.held)
    make(memory, wanted("b"))
    make(memory, wanted("a", "b"))
    assert memory.held == before


def test_a_new_authority_gives_parsers_new_certificates() -> None:
    memory = Memory(store_a=STORE)
    make(memory, wanted("a"))
    before = memory.data("parser", "k-a")
    del memory.held[HERE, "k-parser-authority"]
    make(memory, wanted("a"))
    after = memory.data("parser", "k-a")
    assert before["tls.crt"] != after["tls.crt"]
    assert before["token-sha256"] == after["token-sha256"]


def test_a_concurrent_write_is_not_lost() -> None:
    class Busy(Memory):
        """Another writes a key after the first read."""

        def read(self, namespace: str, name: str) -> Secret | None:
            found = super().read(namespace, name)
            if name == "k-keys" and found is not None and "other" not in found.data:
                self._write(namespace, name, Secret({**found.data, "other": b"x"}, annotations=found.annotations))
            return found

    memory = Busy(k_keys={"jwt": b"j"})
    make_platforms(wanted(), Vault(memory))
    assert memory.data("k-keys")["other"] == b"x"
    assert memory.data("k-keys")["jwt"] == b"j"


@pytest.mark.parametrize(
    ("options", "there", "words"),
    [
        ({}, {}, "teams.a.store_secret: there is no Secret 'store-a' in namespace control: create it first"),
        ({}, {"store_a": {"AWS_ACCESS_KEY_ID": b""}}, "teams.a.store_secret: the Secret 'store-a' in namespace control has no key 'AWS_SECRET_ACCESS_KEY'"),
        ({"database_secret": "db"}, {"store_a": STORE}, "database_secret: there is no Secret 'db'"),
        ({"pull_secrets": ("reg",)}, {"store_a": STORE, "reg": {}}, "images.pull_secrets: the Secret 'reg' in namespace control has no key '.dockerconfigjson'"),
    ],
)  # fmt: skip
def test_a_missing_named_secret_is_reported_with_its_key(
    options: dict[str, Any], there: dict[str, dict[str, bytes]], words: str
) -> None:
    with pytest.raises(SpecError) as refusal:
        refuse_missing(wanted("a", **options), Vault(Memory(**there)))
    assert words in str(refusal.value)


def test_a_named_team_gets_the_llms_key_and_loses_it_when_it_is_named_no_more() -> None:
    memory = Memory(store_a=STORE, store_b=STORE, models={"token": b"sk-1", "other": b"sk-2"})

    def plan(*named: str) -> Wanted:
        secret = {"name": "models", "key": "token"}
        found = wanted("a", "b", llm={"light": secret})
        teams = {
            team: spec.model_copy(update={"llm": {"LLM_KEY": SecretKey.read(secret)} if team in named else {}})
            for team, spec in found.teams.items()
        }
        return found.model_copy(update={"teams": teams})

    make(memory, plan("a"))
    assert memory.data("llm", "k-a") == {"LLM_KEY": b"sk-1"}
    assert memory.read("k-b", "llm") is None
    memory.held[HERE, "models"] = Secret({"token": b"sk-3"})
    make(memory, plan("b"))
    assert memory.data("llm", "k-a") == {}
    assert memory.data("llm", "k-b") == {"LLM_KEY": b"sk-3"}
    assert b"sk-" not in b"".join(memory.data("worker", "k-b").values())


def test_a_missing_llm_key_is_refused_by_the_values_key() -> None:
    plan = wanted("a", llm={"heavy": {"name": "models", "key": "token"}})
    with pytest.raises(SpecError, match=r"llm\.heavy\.secret: there is no Secret 'models'"):
        make(Memory(store_a=STORE), plan)
    with pytest.raises(SpecError, match=r"llm\.heavy\.secret: the Secret 'models' .* has no key 'token'"):
        make(Memory(store_a=STORE, models={"key": b"sk-1"}), plan)
