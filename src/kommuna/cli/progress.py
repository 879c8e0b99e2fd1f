"""Shows the progress of DAG runs: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from kommuna.clients.airflow import AirflowApi, Run


def follow(api: AirflowApi, runs: list[Run], console: Console) -> None:
    """Shows runs until they end.

    Args:
        api: Airflow's client.
        runs: the runs; their states are refreshed in place.
        console: a terminal gets a bar per run, anything else a line per change.
    """
    if console.is_terminal:
        _bars(api, runs, console)
    else:
        _lines(api.watch(runs), runs, console)


def _bars(api: AirflowApi, runs: list[Run], console: Console) -> None:
    columns = (
        TextColumn("{task.description:<24}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[now]}"),
    )
    with Progress(*columns, console=console) as progress:
        bars = {run.dag_id: progress.add_task(run.dag_id, total=None, now="") for run in runs}
        for _ in api.watch(runs):
            for run in runs:
                now = "" if run.ended else ", ".join(name for name, state in run.tasks.items() if state == "running")
                progress.update(bars[run.dag_id], completed=run.done, total=len(run.tasks) or None, now=now)


def _lines(updates: Iterable[None], runs: list[Run], console: Console) -> None:
    printed: dict[tuple[str, str], str] = {}
    for _ in updates:
        for run in runs:
            for task_id, state in run.tasks.items():
                if (
                    state in ("waiting", "scheduled", "queued", "running")
                    or printed.get((run.dag_id, task_id)) == state
                ):
                    continue
                printed[run.dag_id, task_id] = state
                console.print(f"{run.dag_id} {task_id}: {state} ({run.done} of {len(run.tasks)})")
