"""Teams' code from Git: pushes are noticed, and a broken file only affects itself."""

from __future__ import annotations

import base64
import time

import requests
from tests.e2e.conftest import PASSWORD
from tests.e2e.installation import Airflow, Installation, Repository, wait_until

DAG = """
from kommuna.airflow import StepOperator, TeamDag

with TeamDag("{name}"):
    StepOperator(task_id="check", function="kommuna.steps:check", step_resources={{"memory": "768Mi"}})
"""


def test_a_push_is_noticed_and_a_broken_file_only_affects_itself(
    installation: Installation, airflow: Airflow, repository: Repository
) -> None:
    folder = repository.folder / "dags" / "support"
    folder.joinpath("pushed.py").write_text(DAG.format(name="pushed"))
    repository.push("a new DAG")
    pushed = time.monotonic()
    wait_until("the pushed DAG is seen", lambda: "support__pushed" in airflow.dags(), seconds=180)
    print(f"\na pushed DAG was seen after {time.monotonic() - pushed:.0f} s")  # the bar is 30 s

    folder.joinpath("pushed.py").write_text("import nothing_of_that_name\n" + DAG.format(name="pushed"))
    repository.push("a broken file")
    wait_until("the import error is seen", lambda: any("pushed.py" in name for name in airflow.import_errors()))
    errors = airflow.import_errors()
    assert [name for name in errors if "pushed.py" in name]
    assert not [name for name in errors if "pushed.py" not in name], errors
    assert {"support__topics", "support__waits", "fraud__cards", "bench__in_worker"} <= set(airflow.dags())
    airflow.trigger("support__platform_check").succeed()

    folder.joinpath("pushed.py").unlink()
    repository.push("the file is gone")
    wait_until("the import error is gone", lambda: not airflow.import_errors(), seconds=180)


def test_a_private_repository_is_only_read_with_the_teams_secret(installation: Installation, airflow: Airflow) -> None:
    """All of fraud's runs have their code from it; without its password, or with another team's, access is refused.

    Workers do not get the password: they get the code of their commit from the store.
    """
    assert "fraud__cards" in airflow.dags()
    url = f"http://{installation.cluster.address('git', 'fixtures', 8080)}/platform.git/info/refs"
    request = {"params": {"service": "git-upload-pack"}, "timeout": 30}
    assert requests.get(url, auth=("fraud", PASSWORD), **request).status_code == 200
    for login in (None, ("support", "support-secret"), ("fraud", "support-secret")):
        assert requests.get(url, auth=login, **request).status_code == 401
    for team in ("fraud", "support"):
        entries = installation.cluster.get("secret", "worker", installation.namespace(team))["data"]
        assert not [name for name in entries if name.endswith("__GIT")]
        assert PASSWORD not in str([base64.b64decode(value) for value in entries.values()])


def test_a_run_is_pinned_to_its_first_commit(
    installation: Installation, airflow: Airflow, repository: Repository
) -> None:
    steps = repository.folder / "dags" / "support" / "probe_steps.py"
    text = steps.read_text()
    run = airflow.trigger("support__waits", seconds=10)
    wait_until("the first step runs", lambda: run.states().get("wait") == "running", seconds=300)
    steps.write_text(text.replace("def count(", "def count_no_more("))
    repository.push("a step is gone")
    try:
        run.succeed()
    finally:
        steps.write_text(text)
        repository.push("and back")


def test_another_teams_prefix_is_refused_with_the_platforms_message(
    installation: Installation, airflow: Airflow, repository: Repository
) -> None:
    file = repository.folder / "dags" / "support" / "thief.py"
    file.write_text('from airflow.sdk import DAG\n\ndag = DAG("fraud__thief", schedule=None)\n')
    repository.push("a DAG in another team's name")
    wait_until("it is refused", lambda: any("thief.py" in name for name in airflow.import_errors()))
    words = next(text for name, text in airflow.import_errors().items() if "thief.py" in name)
    assert "prefix of team 'fraud'" in words
    assert "fraud__thief" not in airflow.dags()
    file.unlink()
    repository.push("and gone")
    wait_until("the import error is gone", lambda: not airflow.import_errors(), seconds=180)
