"""Attacks from inside a team, each refused by the layer that should; and the lines turn red without that layer.

A refusal by another layer than the named one counts as open: the pod of each attack differs in one thing from one that
is allowed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.e2e.attacks import pods
from tests.e2e.attacks.ledger import Ledger, Line
from tests.e2e.installation import CONTROL, Installation
from tests.e2e.test_1_walls import STORE, places, reached  # noqa: F401 (a fixture)

from kommuna.waiting import wait_until

WORKER = {"app.kubernetes.io/component": "worker"}
BINDING = "validatingadmissionpolicybinding"


@contextmanager
def without(installation: Installation, kind: str, name: str, namespace: str = CONTROL) -> Iterator[None]:
    """Takes an object of the cluster away for a while."""
    kept = installation.cluster.get(kind, name, namespace)
    for key in ("resourceVersion", "uid", "creationTimestamp", "generation", "managedFields"):
        kept["metadata"].pop(key, None)
    kept.pop("status", None)
    installation.cluster.kubectl("-n", namespace, "delete", kind, name)
    try:
        yield
    finally:
        # As Helm's own, or its next upgrade would find a conflict.
        apply = ("apply", "--server-side", "--field-manager=helm", "-f", "-")
        installation.cluster.kubectl(*apply, stdin=json.dumps(kept))


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
    places: list[tuple[str, str, int]],  # noqa: F811
) -> None:
    further = [
        ("the metadata service", "169.254.169.254", 80),
        ("the machine's SSH", "10.10.0.1", 22),
        ("another team's triggerer", "kommuna-triggerer-fraud", 8794),
        ("the internet", "192.0.2.1", 443),
    ]
    found = reached(installation, [*places, *further], "kommuna-support", WORKER)
    doors = {"execution", "mlflow", "store"}
    assert {name for name in doors if found[name] == "open"} == doors
    ledger.add(
        *(
            Line(f"a worker connects to {name}", "NetworkPolicy", how != "open", how)
            for name, how in found.items()
            if name not in doors
        )
    )


def test_a_workers_login_opens_only_its_teams_prefix(installation: Installation, ledger: Ledger) -> None:
    found = json.loads(installation.python(STORE, "kommuna-support", WORKER, env_from="worker").splitlines()[-1])
    assert found["support"] > 0
    ledger.add(
        *(
            Line(f"{what} another team's inbox", "S3 policy", found[key] == "PermissionError", str(found[key]))
            for what, key in (("list", "fraud"), ("write", "fraud written"))
        )
    )


def test_without_the_admission_policy_its_lines_turn_red(installation: Installation) -> None:
    names = [name for name, (layer, _) in pods.CASES.items() if layer == pods.POLICY]
    with without(installation, BINDING, "kommuna-team-pods"):
        wait_until(
            "the policy is gone", lambda: not pods.start(installation, "a volume without a size").refused, seconds=60
        )
        assert not [line for line in (pods.start(installation, name) for name in names) if line.refused]
    wait_until("the policy is back", lambda: pods.start(installation, "a volume without a size").refused, seconds=60)


def test_without_its_quota_a_line_turns_red(installation: Installation) -> None:
    name = "a pod without an end"
    assert pods.start(installation, name).refused
    with without(installation, "resourcequota", "parser", "kommuna-bench"):
        wait_until("the quota is gone", lambda: not pods.start(installation, name).refused, seconds=60)
    wait_until("the quota is back", lambda: pods.start(installation, name).refused, seconds=60)


def test_without_the_network_policy_its_lines_turn_red(
    installation: Installation,
    places: list[tuple[str, str, int]],  # noqa: F811
) -> None:
    kubelet = [place for place in places if place[0].startswith("kubelet")]
    policies = [("default-deny", "kommuna-support"), ("worker", "kommuna-support")]
    with (
        without(installation, "networkpolicy", policies[0][0], policies[0][1]),
        without(installation, "networkpolicy", policies[1][0], policies[1][1]),
    ):
        assert set(reached(installation, kubelet, "kommuna-support", WORKER).values()) == {"open"}
    assert "open" not in reached(installation, kubelet, "kommuna-support", WORKER).values()
