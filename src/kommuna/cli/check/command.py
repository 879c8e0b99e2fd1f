"""`kommuna check`: checks a team's bundle without starting anything."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from kommuna.cli.check.process.start import inspect
from kommuna.cli.here import console
from kommuna.cli.tables import AsJson, print_json
from kommuna.errors import SpecError, TeamMistake
from kommuna.extras import not_installed

app = typer.Typer()


@app.command()
def check(folder: Annotated[Path, typer.Argument(help="A team's bundle.")], as_json: AsJson = False) -> None:
    """Check a team's bundle: imports, ids, pools, schedules, rules files, steps, parameters and columns."""
    if not folder.is_dir():
        raise SpecError(f"no folder {folder}", fix="give a team's bundle, such as dags/support")
    if find_spec("airflow") is None:
        raise not_installed(ModuleNotFoundError(name="airflow"), "kommuna check")
    found = inspect(folder.resolve())
    if as_json:
        print_json(found.model_dump())
        raise typer.Exit(1 if found.findings else 0)
    for finding in found.findings:
        error = TeamMistake(f"{finding.file}:{finding.line}: {finding.what}", fix=finding.fix)
        console.print(str(error))
    if found.findings:
        console.print(f"{len(found.findings)} finding(s) in {found.files} file(s)", style="bold red")
        raise typer.Exit(1)
    console.print(
        f"{found.files} file(s), {found.dags} DAG(s), {found.steps} step(s): nothing found",
        style="green",
    )
