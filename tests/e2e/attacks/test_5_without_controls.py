"""The suite can fail: each main control is taken away in turn, and its lines turn red.

A change of the control plane's code takes a minute or two, there and back.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.attacks import dag_files, pods
from tests.e2e.attacks.conftest import Hostile, admin, registry, secrets
from tests.e2e.attacks.controls import changed, rewritten, without, without_store_policy
from tests.e2e.attacks.dag_files import FILES
from tests.e2e.attacks.ledger import Ledger, Line
from tests.e2e.attacks.people import BROKEN, make_rows
from tests.e2e.attacks.test_2_people import PERSON, ask
from tests.e2e.installation import ROOT, Airflow, Installation, wait_until
from tests.e2e.test_1_walls import STORE, places, reached  # noqa: F401 (a fixture)

WORKER = {"app.kubernetes.io/component": "worker"}
BINDING = "validatingadmissionpolicybinding"
INSTALLED = "/opt/kommuna/kommuna"
API = "kommuna-api-server"


def source(name: str, *replaced: tuple[str, str]) -> str:
    """Returns a module of the platform with some of its text replaced."""
    return _replaced((ROOT / "src" / "kommuna" / name).read_text(), replaced)


def _replaced(text: str, changes: tuple[tuple[str, str], ...]) -> str:
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def asked(airflow: Airflow, victim: Mapping[str, str]) -> dict[str, Line]:
    """Runs the task that walks the Execution API; returns its lines."""
    run = airflow.trigger("support__asks", **victim)
    wait_until("it has asked", lambda: run.states().get("asks") in ("success", "failed"), seconds=300)
    assert run.states()["asks"] == "success", run.log("asks")
    return {one["attack"]: Line(by="task", **one) for one in run.result("asks")["lines"]}


@pytest.fixture
def victim(hostile: Hostile, airflow: Airflow) -> dict[str, str]:
    run = airflow.trigger("fraud__victim")
    run.succeed()
    return {"victim": run.run_id, "other": run.tasks()["nothing"]["id"]}


def test_without_the_admission_policy_its_lines_turn_red(installation: Installation, ledger: Ledger) -> None:
    names = [name for name, (layer, _) in pods.CASES.items() if layer == pods.POLICY]
    with without(installation, BINDING, "kommuna-team-pods"):
        wait_until(
            "the policy is gone", lambda: not pods.start(installation, "a volume without a size").refused, seconds=60
        )
        ledger.red("the admission policy", *(pods.start(installation, name) for name in names))
    wait_until("the policy is back", lambda: pods.start(installation, "a volume without a size").refused, seconds=60)


def test_without_its_quota_a_line_turns_red(installation: Installation, ledger: Ledger) -> None:
    name = "a pod without an end"
    assert pods.start(installation, name).refused
    with without(installation, "resourcequota", "parser", "kommuna-bench"):
        wait_until("the quota is gone", lambda: not pods.start(installation, name).refused, seconds=60)
        ledger.red("a quota", pods.start(installation, name))
    wait_until("the quota is back", lambda: pods.start(installation, name).refused, seconds=60)


def test_without_the_network_policy_its_lines_turn_red(
    installation: Installation,
    ledger: Ledger,
    places: list[tuple[str, str, int]],  # noqa: F811
) -> None:
    kubelet = [place for place in places if place[0].startswith("kubelet")]
    with ExitStack() as kept:
        for name in ("default-deny", "worker", "llm"):  # all that bound where a worker may connect
            kept.enter_context(without(installation, "networkpolicy", name, "kommuna-support"))
        found = reached(installation, kubelet, "kommuna-support", WORKER)
        ledger.red(
            "the network policy",
            *(Line(name, "pod", "NetworkPolicy", how != "open", how) for name, how in found.items()),
        )
    assert "open" not in reached(installation, kubelet, "kommuna-support", WORKER).values()


def test_without_the_policy_of_the_store_its_lines_turn_red(installation: Installation, ledger: Ledger) -> None:
    def tried() -> list[Line]:
        found = json.loads(installation.python(STORE, "kommuna-support", WORKER, env_from="worker").splitlines()[-1])
        return [
            Line(key, "pod", "S3 policy", found[key] == "PermissionError", str(found[key]))
            for key in ("fraud", "fraud written")
        ]

    with without_store_policy(installation, "support"):
        ledger.red("the store's policy", *tried())
    assert all(line.refused for line in tried())


@pytest.mark.long
def test_without_the_registrys_rule_of_sources_its_line_turns_red(installation: Installation, ledger: Ledger) -> None:
    rule = "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX"

    def drop(pod: dict[str, Any]) -> None:
        (container,) = pod["containers"]
        container["env"] = [one for one in container["env"] if one["name"] != rule]

    def tried() -> Line:
        call = registry(installation, "support")
        call("registered-models/create", {"name": "attack"})
        body = {"name": "attack", "source": "s3://kommuna/mlflow/workspaces/fraud/0/models"}
        answer = call("model-versions/create", body)
        evidence = f"{answer.status_code} {answer.text[:250]}"
        return Line(str(body), "pod", "MLflow source rule", answer.status_code == 400, evidence)

    assert tried().refused
    with changed(installation, "kommuna-mlflow", drop):
        ledger.red("the registry's rule of sources", tried())
    assert tried().refused


@pytest.mark.long
def test_without_the_guard_its_lines_turn_red(
    installation: Installation, airflow: Airflow, victim: dict[str, str], ledger: Ledger
) -> None:
    plugin = source(
        "airflow/server/plugin.py", ('        _middleware("Kommuna guard", "guard.middleware", "Guard"),\n', "")
    )
    with rewritten(installation, API, f"{INSTALLED}/airflow/server/plugin.py", plugin):
        lines = [line for line in asked(airflow, victim).values() if line.layer == "guard"]
    for name in ("fraud__squat", "everybodys"):  # what the attacks made
        airflow.call("DELETE", f"/variables/{name}")
    succeeded = [line.attack for line in lines if line.evidence.startswith("2")]
    itself = [line.attack for line in lines if line.refused]
    print(f"\n{len(succeeded)} attacks succeed without the guard:", *succeeded, sep="\n  ")
    print(f"{len(itself)} are refused by Airflow itself:", *itself, sep="\n  ")
    assert len(succeeded) >= 20
    ledger.red("the guard", *(line for line in lines if not line.refused))


@pytest.mark.long
def test_without_the_limit_of_a_body_its_line_turns_red(
    installation: Installation, airflow: Airflow, victim: dict[str, str], ledger: Ledger
) -> None:
    place = "airflow/server/guard/middleware.py"
    unlimited = source(place, ("raw = await read(scope, receive, limit)", "raw = await read(scope, receive, 1 << 40)"))
    with rewritten(installation, API, f"{INSTALLED}/{place}", unlimited):
        lines = asked(airflow, victim)
    ledger.red("the limit of a body", *(line for line in lines.values() if line.layer == "body limit"))
    assert all(line.refused for line in lines.values() if line.layer == "guard")


@pytest.mark.long
def test_without_the_teams_of_the_auth_manager_its_lines_turn_red(
    installation: Installation, hostile: Hostile, airflow: Airflow, ledger: Ledger
) -> None:
    from airflow.api_fastapi.auth.managers.simple import simple_auth_manager

    text = _replaced(
        Path(simple_auth_manager.__file__).read_text(),
        (("return details.name in user.teams", "return True"), ("team_name not in user.teams", "False")),
    )
    place = "/opt/venv/lib/python3.11/site-packages/airflow/api_fastapi/auth/managers/simple/simple_auth_manager.py"
    with hostile.files("fraud", BROKEN):
        ids = make_rows(admin(airflow))
        with rewritten(installation, API, place, text):
            lines = ask(installation.airflow(PERSON), ids)
    red = [line for line in lines if not line.refused]
    print(f"\n{len(red)} of {len(lines)} requests succeed without teams:", *(line.attack for line in red), sep="\n  ")
    assert len(red) > 10
    ledger.red("the auth manager's teams", *red)


@pytest.mark.long
def test_without_admission_its_lines_turn_red(
    installation: Installation, hostile: Hostile, airflow: Airflow, ledger: Ledger
) -> None:
    """Without the platform's own judgement of a parser's answer, a file that lies about its DAG's id is believed."""
    place = "airflow/isolation/answer.py"
    judge = "[str(violation) for violation in judge(seen, team=requested.team, platform=requested.platform)]"
    blind = source(place, (judge, "[]"))
    try:
        with (
            hostile.files("bench", {"id.py": FILES["id.py"].source}),
            rewritten(installation, "kommuna-dag-processor-bench", f"{INSTALLED}/{place}", blind),
        ):
            wait_until("the DAG is stored", lambda: "fraud__attack" in airflow.dags(), seconds=300)
        ledger.red("admission", Line("a DAG with another team's prefix", "DAG", "admission", False, "stored"))
    finally:
        airflow.call("DELETE", "/dags/fraud__attack")


@pytest.mark.long
def test_without_the_relay_a_file_finds_the_platforms_secrets(
    installation: Installation, hostile: Hostile, airflow: Airflow, ledger: Ledger
) -> None:
    """Airflow's own processor runs a team's file in the control plane. The file tells what it finds as its error."""
    place = "airflow/isolation/processor.py"
    stock = source(
        place,
        ("        from airflow.configuration import conf\n", "        return super()._create_process(dag_file)\n"),
        ("if proc.fault is not None:", 'if getattr(proc, "fault", None) is not None:'),
    )

    def found() -> dict[str, int]:
        texts = [text for name, text in airflow.import_errors().items() if name.endswith("tells.py")]
        told, *_ = [*re.findall(r"told (\{.*\})", " ".join(texts)), "{}"]
        counts: dict[str, int] = ast.literal_eval(told)
        return counts

    tells = dag_files.reader(secrets(installation)) + '\nraise ValueError(f"told {report()}")\n'
    with hostile.files("bench", {"tells.py": tells}):
        wait_until("the file is parsed", found, seconds=300)
        assert set(found().values()) == {0}
        with rewritten(installation, "kommuna-dag-processor-bench", f"{INSTALLED}/{place}", stock):
            wait_until("Airflow's processor has parsed it", lambda: any(found().values()), seconds=300)
            seen = {where: count for where, count in found().items() if count}
        assert seen.keys() >= {"environment", "memory"}
        ledger.red(
            "the relay",
            *(
                Line(f"code reads the platform's secrets in its {where}", "DAG", "relay", False, f"{count} found")
                for where, count in seen.items()
            ),
        )
        wait_until("the relay is back", lambda: set(found().values()) == {0}, seconds=300)
