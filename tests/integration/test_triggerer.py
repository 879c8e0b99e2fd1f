"""The triggerer with a real database of two teams: allowed triggers fire, and others fail their tasks."""

from __future__ import annotations

import contextlib
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.rigs.isolation import PLATFORM, Rig, migrated_database

from kommuna.waiting import wait_until

pytestmark = pytest.mark.timeout(900)
TEMPORAL = "airflow.providers.standard.triggers.temporal.DateTimeTrigger"
WORKFLOW = "airflow.providers.standard.triggers.external_task.WorkflowTrigger"
DAG_STATE = "airflow.providers.standard.triggers.external_task.DagStateTrigger"
MARKER_MODULE = """
from pathlib import Path
Path({marker!r}).write_text("imported")
class Touch:
    def __init__(self, **arguments): pass
"""


def moment(seconds: float) -> dict[str, Any]:
    """Returns a time from now, serialised as Airflow serialises a TimeDeltaTrigger."""
    zone = {
        "__classname__": "builtins.tuple",
        "__version__": 1,
        "__data__": ["UTC", "pendulum.tz.timezone.Timezone", 1, True],
    }
    data = {"timestamp": datetime.now(UTC).timestamp() + seconds, "tz": zone}
    return {"__classname__": "pendulum.datetime.DateTime", "__version__": 2, "__data__": data}


class Waiting:
    """Deferred tasks of two teams, and a triggerer."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.log = rig.folder / "triggerer.log"
        self.marker = rig.folder / "marker"
        rig.write("touching.py", MARKER_MODULE.format(marker=str(self.marker)))
        self.store((rig.folder / "store").as_uri())

    def store(self, url: str) -> None:
        """Where logs go."""
        (self.rig.folder / "kommuna.yaml").write_text(f"{PLATFORM}store: {url}\nstore_options: {{auto_mkdir: true}}\n")

    def environment(self) -> dict[str, str]:
        """The environment with the bundle on the import path, as when a bundle is also a folder of shared code."""
        path = f"{self.rig.folder}/dags/support:{Path(__file__).parents[2]}"
        return self.rig.environment(
            PYTHONPATH=path, AIRFLOW__LOGGING__LOGGING_CONFIG_CLASS="kommuna.airflow.server.task_logs.LOGGING_CONFIG"
        )

    def defer(self, *tasks: dict[str, Any]) -> list[str]:
        """Makes tasks defer, and returns their runs."""
        command = [sys.executable, "-m", "tests.rigs.triggerer", json.dumps(tasks)]
        done = subprocess.run(command, env=self.environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        return [line.split()[1] for line in done.stdout.splitlines() if line.startswith("RUN ")]

    @contextlib.contextmanager
    def triggerer(self, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        """Runs a triggerer."""
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *command], env=self.environment(), stdout=log, stderr=log, cwd=self.rig.folder
            )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)

    def ours(self, *teams: str) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        """Runs the platform's triggerer."""
        return self.triggerer("-m", "kommuna.airflow.triggers.process", "--skip-serve-logs", *teams)

    def stock(self, team: str) -> contextlib.AbstractContextManager[subprocess.Popen[bytes]]:
        """Runs Airflow's triggerer."""
        airflow = str(Path(sys.executable).with_name("airflow"))
        return self.triggerer(airflow, "triggerer", "--skip-serve-logs", "--team-name", team)

    def task(self, run: str) -> tuple[str, str, Any]:
        """Returns the state, next method and arguments of a run's task."""
        with contextlib.closing(sqlite3.connect(self.rig.db, timeout=60)) as connection:
            query = "select state, next_method, next_kwargs from task_instance where run_id = ? order by task_id"
            state, method, arguments = connection.execute(query, (run,)).fetchone()
        return state, method, json.loads(arguments or "null")

    def resumed(self, run: str, *, seconds: float = 120) -> tuple[str, Any]:
        """Waits for the method and arguments with which a deferred task resumes."""
        wait_until(
            "the task is resumed",
            lambda: self.task(run)[0] != "deferred",
            seconds=seconds,
            every=0.2,
            late=lambda: AssertionError(self.log.read_text()[-3000:]),
        )
        found = self.task(run)
        assert found[0] == "scheduled", found
        return found[1], found[2]

    def refused(self, run: str) -> str:
        """Returns the reason why a deferred task failed."""
        method, arguments = self.resumed(run)
        assert method == "__fail__", (method, arguments)
        return str(arguments["error"])


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A rig with one DAG of each team."""
    folder = tmp_path_factory.mktemp("database")
    migrated_database(folder / "airflow.db")
    rig = Rig(folder / "rig", folder / "airflow.db")
    rig.good("x")
    rig.good("starts")
    rig.good("y", team="fraud")
    rig.process_by_stock("support")
    rig.process_by_stock("fraud")
    assert set(rig.dags()) == {"support__x", "support__starts", "fraud__y"}
    # Admission refuses such a task: here it got in all the same.
    with contextlib.closing(sqlite3.connect(rig.db, isolation_level=None)) as connection:
        where = "where dag_id = 'support__starts'"
        (data,) = connection.execute(f"select data from serialized_dag {where}").fetchone()
        written = json.loads(data)
        written["dag"]["tasks"][0]["__var"]["start_from_trigger"] = True
        connection.execute(f"update serialized_dag set data = ? {where}", (json.dumps(written),))
        connection.execute("pragma wal_checkpoint(truncate)")  # the file alone is copied
    return rig.db


@pytest.fixture
def waiting(tmp_path: Path, database: Path) -> Waiting:
    return Waiting(Rig(tmp_path / "rig", database))


def triggers_log(rig: Rig) -> str:
    """Returns the log of a task's trigger, as the API server reads it from the store."""
    return "".join(path.read_text() for path in (rig.folder / "store").rglob("*.trigger.*.log"))


def waits(classpath: str, arguments: Any, *, dag_id: str = "support__x", **more: Any) -> dict[str, Any]:
    return {"dag_id": dag_id, "classpath": classpath, "trigger_kwargs": arguments, **more}


def test_both_teams_tasks_wait_by_allowed_triggers_and_other_triggers_fail_with_the_reason(waiting: Waiting) -> None:
    popen = {"args": ["touch", str(waiting.marker)]}
    exception = {
        "__type": "dict",
        "__var": {
            "moment": {
                "__type": "airflow_exc_ser",
                "__var": {"__type": "dict", "__var": {"exc_cls_name": "touching.Touch", "args": [], "kwargs": {}}},
            }
        },
    }
    carried = {
        "x": {"__classname__": "airflow.sdk.definitions.callback.AsyncCallback", "__version__": 0, "__data__": {}}
    }
    own_runs = {"run_ids": ["the-first"]}
    runs = waiting.defer(
        waits(TEMPORAL, {"moment": moment(1), "end_from_trigger": False}, run_id="the-first", next_kwargs={"seen": 3}),
        waits(TEMPORAL, {"moment": moment(1)}, dag_id="fraud__y"),
        waits("touching.Touch", {}),
        waits("subprocess.Popen", popen),
        waits(TEMPORAL, exception),
        waits(TEMPORAL, {"moment": moment(1), "padding": "x" * 20_000}),
        waits(TEMPORAL, {"moment": moment(1)}, next_kwargs=carried),
        waits(TEMPORAL, {"moment": moment(4e8)}),
        waits(TEMPORAL, "gAAAAABnonsense"),
        waits(WORKFLOW, {"external_dag_id": "fraud__y", "poke_interval": 60}),
        waits(
            WORKFLOW, {**own_runs, "external_dag_id": "support__x", "poke_interval": 10, "allowed_states": ["running"]}
        ),
        waits(TEMPORAL, {"moment": moment(1)}, dag_id="support__starts"),
        {"classpath": "touching.Touch", "watch": "support__asset"},
        waits(DAG_STATE, {**own_runs, "dag_id": "support__x", "poll_interval": 10, "states": ["running"]}),
    )
    with waiting.ours("support", "fraud"):
        one, two, own, popened, borne, large, kept, late, cipher, spying, task, starts, _, run = runs
        method, arguments = waiting.resumed(one)
        assert method == "execute_complete"
        assert arguments["seen"] == 3
        assert "event" in arguments
        assert waiting.resumed(two)[0] == "execute_complete"
        assert "the platform does not run the trigger touching.Touch" in waiting.refused(own)
        assert f"use one of {TEMPORAL}" in waiting.refused(popened)
        assert "unknown key '__type'" in waiting.refused(borne)
        assert "characters" in waiting.refused(large)
        assert "AsyncCallback" in waiting.refused(kept)
        assert "is too far away" in waiting.refused(late)
        assert "they are not JSON" in waiting.refused(cipher)
        assert "'fraud__y' is not a DAG of team 'support'" in waiting.refused(spying)
        assert "the task starts from a trigger" in waiting.refused(starts)
        assert waiting.resumed(task)[1]["event"] == {"status": "success"}
        assert waiting.resumed(run)[1]["event"][1]["the-first"] == "running"
    assert not waiting.marker.exists()
    assert waiting.log.read_text().count("trigger.ignored") == 1
    assert "Trigger fired event" in triggers_log(waiting.rig)


def test_an_unwritable_store_does_not_fail_triggers(waiting: Waiting) -> None:
    waiting.store("file:///dev/null/store")
    (run,) = waiting.defer(waits(TEMPORAL, {"moment": moment(1)}))
    with waiting.ours("support") as triggerer:
        assert waiting.resumed(run)[0] == "execute_complete"
        (run,) = waiting.defer(waits(TEMPORAL, {"moment": moment(1)}))
        assert waiting.resumed(run)[0] == "execute_complete"
        assert triggerer.poll() is None
    assert "Failed to upload trigger logs to remote" in waiting.log.read_text()


@pytest.mark.parametrize("payload", ["touching.Touch", "subprocess.Popen"])
def test_airflows_triggerer_runs_what_ours_refuses(waiting: Waiting, payload: str) -> None:
    arguments = {"args": ["touch", str(waiting.marker)]} if payload == "subprocess.Popen" else {}
    (run,) = waiting.defer(waits(payload, arguments))
    with waiting.stock("support"):
        wait_until(
            "the trigger ran",
            waiting.marker.exists,
            every=0.2,
            late=lambda: AssertionError(waiting.task(run), waiting.log.read_text()[-3000:]),
        )
