"""`kommuna check`: judges a team's bundle without starting anything."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from kommuna.cli.finding import Findings
from kommuna.cli.here import console
from kommuna.errors import PlatformFault, SpecError

app = typer.Typer()


@app.command()
def check(folder: Annotated[Path, typer.Argument(help="A team's bundle.")]) -> None:
    """Judge a team's bundle: imports, ids, pools, schedules, rules files, steps, parameters and columns."""
    if not folder.is_dir():
        raise SpecError(f"no folder {folder}", mend="name a team's bundle, such as dags/support")
    found = inspect(folder.resolve())
    for finding in found.findings:
        console.print(f"{finding.file}:{finding.line}: {finding.what}", highlight=False, markup=False, soft_wrap=True)
        if finding.mend:
            console.print(f"  mend: {finding.mend}", highlight=False, markup=False, soft_wrap=True)
    if found.findings:
        console.print(f"{len(found.findings)} finding(s) in {found.files} file(s)", style="bold red", highlight=False)
        raise typer.Exit(1)
    console.print(
        f"{found.files} file(s), {found.dags} DAG(s), {found.steps} step(s): nothing found",
        style="green",
        highlight=False,
    )


def inspect(folder: Path) -> Findings:
    """Findings of a bundle; its code is imported in a process of its own.

    Raises:
        PlatformFault: that process died.
    """
    with tempfile.TemporaryDirectory(prefix="kommuna-check-") as scratch:
        result = Path(scratch, "findings.json")
        environment = {**os.environ, "AIRFLOW_HOME": scratch, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        done = subprocess.run(
            [sys.executable, "-m", "kommuna.cli.inspection", str(folder), str(result)],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if not result.exists():
            lines = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()
            raise PlatformFault(
                f"the bundle's code ended the check: {lines[-1]}",
                where=str(folder),
                mend="run its DAG files with python",
            )
        return Findings.model_validate_json(result.read_bytes())
