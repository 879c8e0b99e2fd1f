"""Attacks by pods of a team, each refused by the layer that should.

A refusal by another layer than the named one counts as open: the pod of each attack differs in one thing from one that
is allowed.
"""

from __future__ import annotations

import json

import pytest
from tests.e2e.attacks import pods
from tests.e2e.attacks.conftest import pods_by_address
from tests.e2e.attacks.ledger import Ledger, Line
from tests.e2e.installation import Installation
from tests.e2e.test_1_walls import STORE, places, reached, reached_from  # noqa: F401 (a fixture)

WORKER = {"app.kubernetes.io/component": "worker"}


def test_the_ordinary_pod_of_a_team_is_allowed(installation: Installation) -> None:
    assert "created (server dry run)" in pods.allowed(installation)


@pytest.mark.parametrize("name", pods.CASES)
def test_a_pod_is_refused(installation: Installation, ledger: Ledger, name: str) -> None:
    ledger.add(pods.start(installation, name))


def test_a_teams_service_account_may_only_start_pods_in_its_namespace(
    installation: Installation, ledger: Ledger
) -> None:
    ledger.add(*(pods.ask(installation, *right) for right in pods.RIGHTS))
    assert pods.ask(installation, "create", "pods", "kommuna-bench").evidence == "yes"


def test_a_worker_reaches_nothing_but_its_services(
    installation: Installation,
    ledger: Ledger,
    outside: list[tuple[str, str, int]],
    places: list[tuple[str, str, int]],  # noqa: F811
) -> None:
    found = reached(installation, [*places, *outside, *pods_by_address(installation)], "kommuna-support", WORKER)
    doors = {"execution", "mlflow", "store"}
    assert {name for name in doors if found[name] == "open"} == doors
    ledger.add(
        *(
            Line(f"a worker connects to {name}", "pod", "NetworkPolicy", how != "open", how)
            for name, how in found.items()
            if name not in doors
        )
    )


@pytest.mark.parametrize("deployment", ["api-server", "mlflow"])
def test_a_server_that_answers_teams_connects_to_no_address_of_their_choice(
    installation: Installation, ledger: Ledger, outside: list[tuple[str, str, int]], deployment: str
) -> None:
    needed = ("postgresql", "triggerer")
    others = [place for place in pods_by_address(installation) if not any(name in place[0] for name in needed)]
    found = reached_from(installation, [*outside, *others], deployment)
    ledger.add(
        *(
            Line(f"{deployment} connects to {name}", "person", "NetworkPolicy", how != "open", how)
            for name, how in found.items()
        )
    )


def test_a_workers_login_opens_only_its_teams_prefix(installation: Installation, ledger: Ledger) -> None:
    found = json.loads(installation.python(STORE, "kommuna-support", WORKER, env_from="worker").splitlines()[-1])
    assert found["support"] > 0
    ledger.add(
        *(
            Line(f"{what} another team's inbox", "pod", "S3 policy", found[key] == "PermissionError", str(found[key]))
            for what, key in (("list", "fraud"), ("write", "fraud written"))
        )
    )
