"""`kommuna run-dag`: runs a DAG, or one of its tasks, in this process."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kommuna.cli.here import console
from kommuna.cli.run_arguments import Conf, LogicalDate, Params, given_conf, given_date, given_params, require_declared
from kommuna.cli.run_dag.settings import set_up
from kommuna.cli.tables import AsJson, print_json, print_table, records
from kommuna.errors import SpecError
from kommuna.spec.installation import place_of

if TYPE_CHECKING:
    from kommuna.cli.run_dag.running import EndedRun

app = typer.Typer()
_COLUMNS = ("task", "state", "seconds")


@app.command("run-dag")
def run_dag(
    file: Annotated[Path, typer.Argument(help="A DAG file in a team's bundle.")],
    dag: Annotated[str, typer.Option("--dag", help="The DAG to run, if the file has several.")] = "",
    task: Annotated[str, typer.Option("--task", help="Run this task and its upstream tasks only.")] = "",
    alone: Annotated[bool, typer.Option("--alone", help="With --task: run it without its upstream tasks.")] = False,
    param: Params = None,
    conf: Conf = "",
    date: LogicalDate = "now",
    as_json: AsJson = False,
) -> None:
    """Run a DAG, or one of its tasks, in this process, where breakpoint() works. The platform may be down."""
    if not file.is_file():
        raise SpecError(f"no file {file}", fix="name a DAG file, such as dags/support/topics.py")
    if alone and not task:
        raise SpecError("--alone needs --task", fix="name the task with --task")
    path = file.resolve()
    place = place_of(path)
    parameters, logical_date = given_params(param), given_date(date)
    whole = given_conf(conf) | parameters
    set_up(place)  # before Airflow is imported
    with _prints_to_stderr():
        from kommuna.cli.run_dag.running import chosen, loaded, part, run

        taken = chosen(loaded(path, place), dag, path, place)
        require_declared(taken.dag_id, parameters, list(taken.params))
        if task:
            taken = part(taken, task, alone=alone)
        ended = run(taken, whole, logical_date)
    _show(ended, as_json=as_json)
    wanted = [one for one in ended.tasks if not task or one.task.partition("[")[0] == task]
    if ended.state != "success" or not any(one.state == "success" for one in wanted):
        raise typer.Exit(1)


@contextlib.contextmanager
def _prints_to_stderr() -> Iterator[None]:
    """Redirects output of tasks, steps and Airflow to stderr: stdout is for the command's result."""
    sys.stdout.flush()
    stdout = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(stdout, 1)
        os.close(stdout)


def _show(ended: EndedRun, *, as_json: bool) -> None:
    rows = [(task.task, task.state, task.seconds) for task in ended.tasks]
    if as_json:
        print_json({"dag": ended.dag_id, "state": ended.state, "tasks": records(_COLUMNS, rows)})
        return
    print_table(console, _COLUMNS, rows)
    style = "green" if ended.state == "success" else "bold red"
    failed = ", ".join(task.task for task in ended.tasks if task.state == "failed")
    console.print(f"{ended.dag_id}: {ended.state}{f' of {failed}' if failed else ''}", style=style)
