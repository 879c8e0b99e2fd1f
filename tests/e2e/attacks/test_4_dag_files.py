"""Attacks by DAG code: files of a hostile team's bundle, each refused with a reason while other teams' files are parsed."""

from __future__ import annotations

import ast
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from tests.e2e.attacks.conftest import Hostile
from tests.e2e.attacks.dag_files import FILES, SHADOWS
from tests.e2e.attacks.ledger import Ledger, Line
from tests.e2e.installation import Airflow, Installation, wait_until

from kommuna.errors import PlatformFault

PARSE_SECONDS = 90  # until another team's new DAG is seen; without hostile files it takes 15 to 30 s
DAG = "from airflow.sdk import DAG\n\ndag = DAG('pushed_meanwhile', schedule=None)\n"


@pytest.fixture(scope="module")
def pushed(hostile: Hostile) -> Iterator[None]:
    """All hostile files of bench, in one commit with a new file of another team."""
    hostile.write("fraud", "pushed_meanwhile.py", DAG)
    with hostile.files("bench", {name: attack.source for name, attack in FILES.items()}):
        yield


def test_another_teams_new_dag_is_seen_meanwhile(
    pushed: None, hostile: Hostile, airflow: Airflow, ledger: Ledger
) -> None:
    wait_until("it is seen", lambda: "fraud__pushed_meanwhile" in airflow.dags(), seconds=300)
    seconds = time.monotonic() - hostile.pushed
    ledger.add(
        Line(
            "hostile files hold up another team's",
            "DAG",
            "parser",
            seconds < PARSE_SECONDS,
            f"seen after {seconds:.0f} s",
        )
    )


def test_each_hostile_file_is_refused_with_its_reason(
    pushed: None, installation: Installation, hostile: Hostile, airflow: Airflow, ledger: Ledger
) -> None:
    found: dict[str, str] = {}

    def all_are_refused() -> bool:
        found.update({name.rsplit("/", 1)[-1]: text for name, text in airflow.import_errors().items()})
        return all(attack.is_refused(found.get(name, "")) for name, attack in FILES.items())

    with suppress(PlatformFault):
        wait_until("all are refused", all_are_refused, seconds=240, every=3)
    print(f"\n{len(FILES)} files were refused after {time.monotonic() - hostile.pushed:.0f} s")
    ledger.add(
        *(
            Line(attack.what, "DAG", attack.layer, attack.is_refused(found.get(name, "")), found.get(name, "no import error")[-300:])
            for name, attack in FILES.items()
        )
    )  # fmt: skip
    dags = airflow.dags()
    assert not {"fraud__attack", "bench__attack", "attack"} & set(dags)
    assert {"support__topics", "fraud__cards", "bench__in_worker"} <= set(dags)
    (parser,) = installation.cluster.items("pods", "kommuna-bench", "-l", "app.kubernetes.io/component=parser")
    assert parser["status"]["containerStatuses"][0]["restartCount"] == 0


def test_files_that_python_or_airflow_would_run_by_themselves_and_links_are_harmless(
    hostile: Hostile, airflow: Airflow, ledger: Ledger
) -> None:
    wait_until("the DAG is known", lambda: "bench__marks" in airflow.dags(), seconds=240)
    parsed = ast.literal_eval(airflow.get("/dags/bench__marks")["description"])
    run = airflow.trigger("bench__marks")
    run.succeed()
    places: dict[str, dict[str, Any]] = {"the parser": parsed, "a worker": run.result("marks")}
    links = {place: found.pop("links") for place, found in places.items()}
    for place, found in places.items():
        ledger.add(
            Line(f"{', '.join(SHADOWS)} in {place}", "DAG", "parser", not any(found.values()), str(found)),
            Line(f"links out of the bundle in {place}", "DAG", "parser", not links[place], str(links[place])),
        )


def test_the_control_planes_secrets_are_neither_in_the_parser_nor_in_a_worker(
    hostile: Hostile, airflow: Airflow, ledger: Ledger
) -> None:
    wait_until("the DAG is known", lambda: "bench__reads" in airflow.dags(), seconds=240)
    parsed = ast.literal_eval(airflow.get("/dags/bench__reads")["description"])
    run = airflow.trigger("bench__reads")
    run.succeed()
    places: dict[str, dict[str, int]] = {"relay": parsed, "worker pod": run.result("report")}
    ledger.add(
        *(
            Line(
                f"code reads the platform's secrets in its {where}",
                "DAG" if layer == "relay" else "task",
                layer,
                count == 0,
                f"{count} found",
            )
            for layer, found in places.items()
            for where, count in found.items()
        )
    )
