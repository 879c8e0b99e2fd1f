"""`make fairness`: how much longer one team waits on the cluster while another team floods the platform.

The quotas of both teams together fit on the test cluster's nodes: what is measured is the platform, not whether a node
has room. Half an hour on a machine that does nothing else. Prints the ratios with their intervals; asserts no time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from tests.e2e.installation import BUILD, Airflow, Installation, Repository
from tests.rigs.fairness import FLOODING, FLOODS, WAITING, compare, flooded, measure, prepare

pytestmark = pytest.mark.timeout(7200)


class OnCluster:
    """The installed platform, for `tests.rigs.fairness`."""

    def __init__(self, airflow: Airflow, repository: Repository) -> None:
        self._airflow, self._repository = airflow, repository

    def call(self, method: str, path: str, **options: Any) -> Any:
        """Sends a request as the administrator."""
        return self._airflow.call(method, path, **options)

    def publish(self, team: str, files: Mapping[str, str | None]) -> None:
        """Pushes a commit that writes and removes files of the team's folder."""
        for name, text in files.items():
            path = self._repository.folder / "dags" / team / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                path.unlink(missing_ok=True)
            else:
                path.write_text(text)
        self._repository.push("the files of the fairness test")


@pytest.fixture(scope="session")
def values(values: dict[str, Any]) -> dict[str, Any]:
    cores = {FLOODING: "1", WAITING: "1"}
    teams = {
        name: team | {"quota": team["quota"] | {"cpu": cores.get(name, team["quota"]["cpu"])}}
        for name, team in values["teams"].items()
    }
    return values | {"teams": teams}


def test_a_flood_of_one_team_is_measured_at_another(
    installation: Installation, airflow: Airflow, repository: Repository
) -> None:
    platform = OnCluster(airflow, repository)
    prepare(platform)
    quiet, lines = measure(platform), []
    for flood, what in FLOODS.items():
        for line in compare(quiet, flooded(platform, what)):
            lines.append({"flood": flood, **line})
            print(json.dumps(lines[-1]), flush=True)
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "fairness.json").write_text(json.dumps(lines, indent=1))
    assert len(lines) == 2 * len(FLOODS)
