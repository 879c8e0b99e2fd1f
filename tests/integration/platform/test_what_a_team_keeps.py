"""Each line of docs/what-a-team-keeps.md, on the running platform."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from tests.rigs.dag_runs import DagRuns

from kommuna.errors import PlatformFault
from kommuna.waiting import wait_until

if TYPE_CHECKING:
    from tests.integration.platform.conftest import Site

PAGE = (Path(__file__).resolve().parents[3] / "docs/what-a-team-keeps.md").read_text(encoding="utf-8")
LINES = [line.split("|")[1].strip() for line in re.findall(r"^\| .*$", PAGE, flags=re.MULTILINE)[1:]]

KEEPS = """
import datetime
from pathlib import Path

import keeps_names
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG, BaseHook, Variable, task
from airflow.timetables.interval import CronDataIntervalTimetable
from airflow.timetables.trigger import CronTriggerTimetable
from kommuna.airflow import StepOperator

def read():
    found = [Variable.get("support__limit"), BaseHook.get_connection("support__bank").host]
    return [*found, Variable.get("common_limit"), Variable.get("fraud__limit", default="none")]

def say(name):
    def call(context):
        Path(keeps_names.FOLDER, name).write_text(" ".join(read()))
    return call

with DAG(
    "keeps",
    description=" ".join(read()),
    user_defined_macros={"twice": lambda n: 2 * n},
    user_defined_filters={"loud": str.upper},
    schedule=CronTriggerTimetable("@yearly", timezone="UTC"),
    start_date=datetime.datetime(2026, 1, 1),
    on_failure_callback=say("of the dag"),
):
    @task(on_success_callback=say("of a task"), pool="default")
    def reads():
        return read()

    rendered = BashOperator(
        task_id="rendered",
        bash_command="echo {{ twice(21) }} {{ 'a' | loud }} {{ var.value.support__limit }} {{ conn.support__bank.host }}",
    )
    from_file = BashOperator(task_id="from_file", bash_command="keeps_say.sh")
    step = StepOperator(
        task_id="step",
        function="keeps_steps:doubled",
        inputs={"numbers": "store://inbox/keeps.csv"},
        parameters={"by": "{{ twice(3) }}", "word": "{{ var.value.support__limit | loud }}"},
    )
    reads() >> rendered >> from_file >> step >> BashOperator(task_id="fails", bash_command="exit 1")
"""
STEPS = """
from pathlib import Path
from typing import NamedTuple
import polars as pl
import keeps_names

class Doubled(NamedTuple):
    table: pl.LazyFrame
    metrics: dict[str, float]

def doubled(numbers: Path, *, by: int, word: str) -> Doubled:
    table = pl.scan_csv(numbers).with_columns(pl.col("a") * by)
    return Doubled(table, {"sum": float(table.collect()["a"].sum()), "word": float(word)})
"""
OWN_TIMETABLE = """
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

class Own(CronDataIntervalTimetable):
    pass

with DAG("own_timetable", schedule=Own("@daily", timezone="UTC")):
    EmptyOperator(task_id="t")
"""
OWN_PLUGIN = """
from airflow.plugins_manager import AirflowPlugin
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

class Own(AirflowPlugin):
    name = "plugin_of_a_team"

with DAG("own_plugin", schedule=None):
    EmptyOperator(task_id="t")
"""
OWN_DEADLINE = """
from datetime import timedelta
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, AsyncCallback, DeadlineAlert, DeadlineReference

async def call(): ...

with DAG(
    "own_deadline",
    deadline=DeadlineAlert(
        reference=DeadlineReference.DAGRUN_QUEUED_AT, interval=timedelta(minutes=1), callback=AsyncCallback(call)
    ),
):
    EmptyOperator(task_id="t")
"""
ALL = "5 bank.example 7 none"


class Kept:
    """A run of the DAG `keeps` and its results."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site = site
        self.folder = folder
        self.runs = DagRuns(site)
        for key, value in (("support__limit", "5"), ("fraud__limit", "6"), ("common_limit", "7")):
            self.runs.call("POST", "/variables", json={"key": key, "value": value})
        connection = {"connection_id": "support__bank", "conn_type": "http", "host": "bank.example"}
        self.runs.call("POST", "/connections", json=connection)
        (folder / "keeps.csv").write_text("a\n1\n2\n")
        put = site.kommuna("put", str(folder / "keeps.csv"), "keeps.csv", "--team", "support")
        assert put.returncode == 0, put.stderr
        self.files = [
            self.runs.write(name, source)
            for name, source in (
                ("keeps_names.py", f"FOLDER = {str(folder)!r}\n"), ("keeps_steps.py", STEPS),
                ("keeps_say.sh", "echo from a file {{ ds }}\n"), ("keeps.py", KEEPS), ("own_plugin.py", OWN_PLUGIN),
                ("own_timetable.py", OWN_TIMETABLE), ("own_deadline.py", OWN_DEADLINE),
            )
        ]  # fmt: skip
        known = self.runs.await_dags({"support__keeps", "support__own_plugin"}, 240)
        assert len(known) == 2, self.runs.import_errors()
        self.run = self.runs.trigger("support__keeps", logical_date="2026-09-01T00:00:00Z")
        self.states = self.runs.wait("support__keeps", self.run, 280)

    def of(self, task: str) -> Any:
        """Returns the return value of a task."""
        return self.runs.xcom("support__keeps", self.run, task)

    def called(self, name: str) -> str:
        """Waits for the output of a callback."""
        path = self.folder / name
        with contextlib.suppress(PlatformFault):
            wait_until(f"{name} is written", lambda: path.exists() and path.read_text(), seconds=90)
        return path.read_text() if path.exists() else ""

    def refusal(self, file: str) -> str:
        """Waits for the reason why the platform refuses a file."""
        with contextlib.suppress(PlatformFault):
            wait_until(f"{file} is refused", lambda: file in self.runs.import_errors(), seconds=60, every=1)
        return self.runs.import_errors().get(file, "")

    def backfill(self, login: str, *, since: int = 2026, path: str = "/backfills") -> requests.Response:
        """Requests a backfill, from the beginning of a year, as a member of a team."""
        days = {"from_date": f"{since}-01-01T00:00:00Z", "to_date": "2026-01-02T00:00:00Z"}
        body = {"dag_id": "support__keeps", **days, "dag_run_conf": {}}
        return self.site.api(login).request("POST", path, json=body)


@pytest.fixture(scope="module")
def kept(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    made = Kept(site, tmp_path_factory.mktemp("kept"))
    yield made
    for path in made.files:
        path.unlink()
    for key in ("support__limit", "fraud__limit", "common_limit"):
        made.runs.call("DELETE", f"/variables/{key}")
    made.runs.call("DELETE", "/connections/support__bank")


def variables(kept: Kept) -> None:
    assert kept.of("reads")[0] == "5"
    assert kept.of("rendered").split()[2] == "5"
    description = kept.runs.call("GET", "/dags/support__keeps").json()["description"]
    assert description == ALL
    found = json.loads(kept.site.kommuna("check", "dags/support", "--json").stdout)["findings"]
    assert {finding["file"] for finding in found} == {"own_timetable.py", "own_deadline.py"}, found


def connections(kept: Kept) -> None:
    assert kept.of("reads")[1] == kept.of("rendered").split()[3] == "bank.example"


def everybodys_variables(kept: Kept) -> None:
    assert kept.of("reads")[2:] == ["7", "none"]


def modules(kept: Kept) -> None:
    assert kept.states["step"] == "success", kept.runs.log("support__keeps", kept.run, "step")


def templates_in_files(kept: Kept) -> None:
    assert kept.of("from_file") == "from a file 2026-09-01"


def macros_and_filters(kept: Kept) -> None:
    assert kept.of("rendered").split()[:2] == ["42", "A"]
    assert kept.of("step")["metrics"] == {"sum": 18.0, "word": 5.0}


def timetables(kept: Kept) -> None:
    assert kept.runs.call("GET", "/dags/support__keeps").json()["timetable_summary"] == "0 0 1 1 *"
    assert "has the timetable" in kept.refusal("own_timetable.py")


def plugins(kept: Kept) -> None:
    names = [plugin["name"] for plugin in kept.runs.pages("/plugins", "plugins")]
    assert "kommuna" in names
    assert "plugin_of_a_team" not in names


def callbacks_of_tasks(kept: Kept) -> None:
    assert kept.called("of a task") == ALL


def callbacks_of_dags(kept: Kept) -> None:
    assert kept.states["fails"] == kept.states[""] == "failed"
    assert kept.called("of the dag") == ALL


def deadlines(kept: Kept) -> None:
    assert "deadline" in kept.refusal("own_deadline.py")


def backfills(kept: Kept) -> None:
    assert kept.backfill("fraud").status_code == 404
    for path in ("/backfills", "/backfills/dry_run"):
        long = kept.backfill("support", since=1400, path=path)
        assert (long.status_code, "more than 500 runs" in long.text) == (422, True), long.text
    own = kept.backfill("support")
    assert own.ok, own.text


def pools(kept: Kept) -> None:
    instances = kept.runs.pages(f"/dags/support__keeps/dagRuns/{kept.run}/taskInstances", "task_instances")
    assert {instance["pool"] for instance in instances} == {"support__default"}


def data(kept: Kept) -> None:
    assert kept.of("step")["metrics"]["sum"] == 18.0


PROOFS: dict[str, Callable[[Kept], None]] = {
    "variables": variables,
    "connections": connections,
    "everybody's variables": everybodys_variables,
    "modules": modules,
    "templates in files": templates_in_files,
    "macros and filters": macros_and_filters,
    "timetables": timetables,
    "plugins": plugins,
    "callbacks of tasks": callbacks_of_tasks,
    "callbacks of DAGs": callbacks_of_dags,
    "deadlines": deadlines,
    "backfills": backfills,
    "pools": pools,
    "data": data,
}


def test_each_line_of_the_page_has_a_check() -> None:
    assert list(PROOFS) == LINES


@pytest.mark.parametrize("line", PROOFS)
def test_a_line_of_the_page(kept: Kept, line: str) -> None:
    PROOFS[line](kept)
