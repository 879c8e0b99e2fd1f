"""Runs the whole demo: demo data, the DAGs of both example teams, and a table of the results."""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from kommuna.cli.progress import follow
from kommuna.cli.tables import print_dearest, print_table
from kommuna.clients.airflow import AirflowApi, Run
from kommuna.embedded import Embedded
from kommuna.embedded.disk import explained_disk_errors
from kommuna.extras import needed_by
from kommuna.locks import one_at_a_time
from kommuna.store import Store

DAGS = ("support__topics", "fraud__cards")
MAX_LOGS = 5  # failed tasks whose logs are shown
LOG_LINES = 12  # the last ones of a log that are shown
OWN_DAG = "support__own_messages"
_OF_A_TASK = ("key", "cached", "rows", "seconds", "processor_seconds", "peak_memory_bytes")
_FRAUD_FILES = ("transactions.csv", "tx_dev.csv", "tx_gold.csv", "new_transactions.csv", "events.csv")
_SUPPORT_FILES = ("messages.csv", "dev.csv", "gold.csv", "new_messages.csv")


@dataclass(frozen=True)
class Outcome:
    """One row of the demo's table."""

    team: str
    dag: str
    state: str
    steps: int
    cached: int
    rows: int
    coverage: float | None
    accuracy: float | None
    f1_macro: float | None
    baselines: dict[str, float]
    model: str
    version: str
    seconds: float
    run_id: str
    tasks: dict[str, dict[str, Any]]


def run(platform: Embedded, console: Console, *, data: Path | None, messages: int, output: Path) -> bool:
    """Runs the demo, after any other demo of this platform has ended. A platform that it starts is stopped again.

    Args:
        platform: the platform of this folder.
        console: where progress and figures are printed.
        data: a folder with train.csv, test.csv and rules, for the team's own demo DAG; None for the generated data of
            both teams.
        messages: how many messages are generated, and as many card transactions.
        output: where the figures are written as JSON.

    Returns:
        Whether every run succeeded and registered a model.
    """
    with explained_disk_errors(platform.state), _alone(platform, console):
        return _run(platform, console, data=data, messages=messages, output=output)


def _alone(platform: Embedded, console: Console) -> contextlib.AbstractContextManager[None]:
    """Allows one demo per platform at a time: the first to end would stop the platform under the other."""
    return one_at_a_time(
        platform.state / "demo.lock",
        lambda: console.print("waiting for another demo of this platform"),
    )


def _run(platform: Embedded, console: Console, *, data: Path | None, messages: int, output: Path) -> bool:
    began = time.monotonic()
    try:
        place_data(platform, console, data=data, messages=messages)
        access = platform.up(lambda line: console.print(line), keep=False)
        api = AirflowApi(access.airflow, platform.token())
        dag_ids = [OWN_DAG] if data else list(DAGS)
        api.wait_for_dags(dag_ids)
        ready = time.monotonic()
        runs = [api.trigger(dag_id, {}, date=datetime.now(UTC)) for dag_id in dag_ids]
        follow(api, runs, console)
        whole = report_failures(api, runs, console)
        outcomes = [_outcome(run, api.results(run)) for run in runs]
        pipeline_seconds = time.monotonic() - ready
    finally:
        stopped = platform.release()
    seconds = time.monotonic() - began
    whole = whole and all(outcome.version for outcome in outcomes)
    _show(outcomes, console)
    _show_dearest(outcomes, console)
    output.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "succeeded": whole,
        "seconds": round(seconds, 1),
        "pipeline_seconds": round(pipeline_seconds, 1),
        "runs": [asdict(outcome) for outcome in outcomes],
    }
    output.write_text(json.dumps(document, indent=1, ensure_ascii=False))
    console.print(f"{seconds:.0f} s in total, {pipeline_seconds:.0f} s of it for the DAGs. Written to {output}.")
    where = (
        "the platform is still running (`kommuna status`)." if not stopped else "`make up` starts the platform again."
    )
    console.print(
        f"Next: {where} Each task's «Report» button opens its report; `kommuna show KEY` shows a step's lineage.",
    )
    return whole


def place_data(platform: Embedded, console: Console, *, data: Path | None, messages: int) -> None:
    """Puts the demo's files into the teams' inboxes. Data of the same size is generated only once.

    Args:
        platform: the platform, whose store holds the inboxes.
        console: where it is printed that data is generated.
        data: a folder with train.csv, test.csv and rules; None to generate data for both teams.
        messages: how many messages are generated, and as many card transactions.
    """
    with needed_by("`kommuna demo`"):
        from kommuna.demo.banking77 import write_banking_data
        from kommuna.demo.write import write_demo_data

    address = platform.installation.store()
    support, fraud = Store(address, "support"), Store(address, "fraud")
    with tempfile.TemporaryDirectory(prefix="kommuna-demo-") as name:
        folder = Path(name)
        if data is not None:
            write_banking_data(data, folder)
            for file in (*_SUPPORT_FILES, "rules.yaml"):
                support.put_inbox(folder / file, f"inbox/own/{file}")
            return
        marker = platform.state / "demo-data"
        if marker.exists() and marker.read_text() == f"{address.url} {messages}":
            return
        console.print(f"generating demo data: {messages:,} messages and as many card transactions")
        write_demo_data(folder, messages=messages)
        for store, files in ((support, _SUPPORT_FILES), (fraud, _FRAUD_FILES)):
            for file in files:
                store.put_inbox(folder / file, f"inbox/{file}")
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_text(f"{address.url} {messages}")


def report_failures(api: AirflowApi, runs: list[Run], console: Console) -> bool:
    """Prints the end of each failed task's log. Returns whether all runs succeeded.

    Args:
        api: Airflow's client.
        runs: runs that have been watched to their end.
        console: where the logs are printed.
    """
    for run in runs:
        failed = [task for task, state in run.tasks.items() if state == "failed"]
        for task in failed[:MAX_LOGS]:
            console.print(f"{run.dag_id} {task} failed:", style="bold red")
            for line in api.log(run, task)[-LOG_LINES:]:
                console.print(f"  {line}")
        if failed[MAX_LOGS:]:
            console.print(f"{run.dag_id}: {len(failed) - MAX_LOGS} more failed: {', '.join(failed[MAX_LOGS:])}",
                          style="bold red")  # fmt: skip
        if run.state != "success" and not failed:
            rest = ", ".join(f"{task}: {state}" for task, state in run.tasks.items() if state != "success") or "no task"
            console.print(f"{run.dag_id} is {run.state}; {rest}", style="bold red")
    return all(run.state == "success" for run in runs)


def _outcome(run: Run, results: dict[str, dict[str, Any]]) -> Outcome:
    metrics = {task: result["metrics"] for task, result in results.items()}
    scores = metrics.get("evaluate", {})
    registered = metrics.get("register", {})
    return Outcome(
        team=run.dag_id.partition("__")[0],
        dag=run.dag_id,
        state=run.state,
        steps=sum(state != "skipped" for state in run.tasks.values()),
        cached=sum(bool(result["cached"]) for result in results.values()),
        rows=results.get("vote", {}).get("rows", 0),
        coverage=metrics.get("vote", {}).get("coverage"),
        accuracy=scores.get("accuracy"),
        f1_macro=scores.get("f1_macro"),
        baselines={name: value for name, value in scores.items() if name.startswith("baseline.")},
        model=run.dag_id,
        version=str(int(registered["version"])) if "version" in registered else "",
        seconds=round(run.seconds, 1),
        run_id=run.run_id,
        tasks={task: {key: result[key] for key in _OF_A_TASK} for task, result in results.items()},
    )


def _show(outcomes: list[Outcome], console: Console) -> None:
    columns = ("DAG", "state", "steps", "cached", "rows", "coverage", "macro F1 on gold", "model", "seconds")
    rows = [
        (o.dag, o.state, o.steps, o.cached, o.rows, o.coverage, o.f1_macro, f"v{o.version}" if o.version else "",
         round(o.seconds))
        for o in outcomes
    ]  # fmt: skip
    print_table(console, columns, rows)
    for o in outcomes:
        baselines = [
            f"{name.split('.')[1]} {value:.3f}" for name, value in o.baselines.items() if name.endswith(".f1_macro")
        ]
        if baselines:
            console.print(f"{o.dag}: macro F1 on gold {_share(o.f1_macro)}; baselines: {', '.join(baselines)}")


def _show_dearest(outcomes: list[Outcome], console: Console) -> None:
    steps = [
        (f"{outcome.dag}.{task}", done["seconds"], done["processor_seconds"], done["peak_memory_bytes"])
        for outcome in outcomes
        for task, done in outcome.tasks.items()
        if not done["cached"]
    ]
    print_dearest(console, steps)


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
