"""LLM rules in pods of a team, against a server in another namespace; a team that is not named gets neither key nor way."""

from __future__ import annotations

import json
import random
import string
from pathlib import Path

import polars as pl
import pytest
from tests.e2e.conftest import LLM_KEY
from tests.e2e.installation import CONTROL, Airflow, Installation
from tests.e2e.test_1_walls import reached

from kommuna.spec.step import StoreAddress
from kommuna.store import Store

MESSAGES = 60
CARD = "2200 7000 0000 0009"
HANDSHAKE = """
import socket, ssl
host = "llm.models.svc"
try:
    ssl.create_default_context().wrap_socket(socket.create_connection((host, 8443), 10), server_hostname=host)
    print("believed")
except OSError as error:
    print(error)
"""


@pytest.fixture(scope="module", autouse=True)
def inbox(installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The messages of the DAGs `questions` and `refines`, in the teams' inboxes: new ones, which no run has asked about."""
    folder = tmp_path_factory.mktemp("llm")
    words, new = ("my card", "a loan", "hello there"), "".join(random.choices(string.ascii_lowercase, k=8))
    texts = [f"{word} number {number} {new} please" for number in range(1000) for word in words]
    tags = ["card", "loan", "other"] * 1000
    everything = pl.DataFrame({"id": range(3000), "text": texts, "tag": tags})
    tables = {
        "asked": everything.head(MESSAGES - 1).vstack(pl.DataFrame({"id": [9999], "text": [f"card {CARD} {new}"], "tag": [""]})),
        "asked_too_much": everything.tail(2500),
        "messages": everything.slice(0, 600),
        "dev": everything.slice(600, 150),
    }  # fmt: skip
    for team in ("support", "fraud"):
        options = {"endpoint_url": installation.store_url, "key": team, "secret": f"{team}-secret"}
        store = Store(StoreAddress(url="s3://kommuna/teams", options=options), team)
        for name, table in tables.items():
            path = Path(folder, f"{name}.parquet")
            (table if name == "dev" else table.drop("tag")).write_parquet(path)
            store.put_inbox(path, f"inbox/llm/{path.name}")


def received(installation: Installation) -> list[dict[str, object]]:
    """Returns the requests that reached the server: model and content."""
    log = installation.cluster.kubectl("-n", "models", "logs", "deploy/llm", "--tail", "-1")
    return [json.loads(line) for line in log.splitlines() if line.startswith("{")]


def test_questions_are_answered_in_a_pod_of_the_named_team(installation: Installation, airflow: Airflow) -> None:
    run = airflow.trigger("support__questions")
    run.succeed()
    metrics = run.result("vote")["metrics"]
    assert (metrics["ask_wanted"], metrics["ask_answered"]) == (2 * MESSAGES, 2 * MESSAGES)
    assert metrics["llm_tokens_in"] > 0
    assert metrics["llm_month_tokens_left"] < installation.values["teams"]["support"]["llm"]["month"]["tokens"]
    sent = json.dumps(received(installation))
    assert "[CARD]" in sent
    assert CARD not in sent
    assert LLM_KEY not in run.log("vote")
    light = [request for request in received(installation) if request["model"] == "scripted-light"]
    assert {request["via"] for request in light} == {"1.1 proxy"}  # there is no other way


def test_rules_are_proposed_in_a_pod_of_the_named_team(installation: Installation, airflow: Airflow) -> None:
    run = airflow.trigger("support__refines")
    run.succeed()
    metrics = run.result("refine")["metrics"]
    assert metrics["llm_requests"] > 0
    assert metrics["rules_written"] > 0
    heavy = [request for request in received(installation) if request["model"] == "scripted-heavy"]
    assert heavy
    assert all(request["tls"] for request in heavy)


def test_a_server_of_another_authority_is_not_believed(installation: Installation) -> None:
    """From a worker of the team, with the certificates of the system instead of the endpoint's."""
    said = installation.python(HANDSHAKE, "kommuna-support", {"app.kubernetes.io/component": "worker"})
    assert "certificate verify failed" in said


def test_a_step_that_will_not_fit_the_month_says_so_before_it_asks(
    installation: Installation, airflow: Airflow
) -> None:
    before = len(received(installation))
    run = airflow.trigger("support__too_many_questions")
    assert run.wait() == "failed"
    log = run.log("vote", "LLM budget of team support")
    assert "the step needs about" in log
    assert "kommuna.yaml: teams.support.llm" in log
    assert len(received(installation)) == before


def test_a_team_that_is_not_named_is_told_so(installation: Installation, airflow: Airflow) -> None:
    before = len(received(installation))
    run = airflow.trigger("fraud__questions")
    assert run.wait() == "failed"
    log = run.log("vote", "no light LLM")
    assert "no light LLM is configured for team fraud" in log
    assert "llm.light.teams" in log
    assert len(received(installation)) == before


def test_only_workers_of_the_named_team_have_the_way(installation: Installation) -> None:
    places = [("proxy", "proxy.models.svc", 3128), ("heavy", "llm.models.svc", 8443)]
    past_the_proxy = ("light", "llm.models.svc", 8000)
    worker, parser = {"app.kubernetes.io/component": "worker"}, {"app": "stray"}
    found = reached(installation, [*places, past_the_proxy], "kommuna-support", worker)
    assert (found["proxy"], found["heavy"]) == ("open", "open")
    assert found["light"] != "open"
    assert "open" not in reached(installation, places, "kommuna-fraud", worker).values()
    by_address = [
        (name, installation.cluster.get("service", host.partition(".")[0], "models")["spec"]["clusterIP"], port)
        for name, host, port in places
    ]
    assert "open" not in reached(installation, by_address, "kommuna-support", parser).values()


def test_the_key_is_in_no_other_place(installation: Installation) -> None:
    cluster = installation.cluster
    assert cluster.secret("llm", "SCRIPTED_LLM_KEY", "kommuna-support") == LLM_KEY
    for team in ("fraud", "bench"):
        assert not cluster.kubectl("-n", f"kommuna-{team}", "get", "secret", "llm", "--ignore-not-found", "-o", "name")
    assert LLM_KEY not in cluster.helm("get", "all", CONTROL, "--namespace", CONTROL).stdout
    for namespace in (CONTROL, *map(installation.namespace, installation.values["teams"])):
        assert LLM_KEY not in cluster.kubectl("-n", namespace, "get", "configmaps,pods,deployments", "-o", "yaml")
    environment = cluster.kubectl("-n", "kommuna-support", "exec", "deploy/parser", "--", "env")
    assert "KOMMUNA_TEAM=support" in environment
    assert "SCRIPTED_LLM_KEY" not in environment
