"""`kommuna new`: creates the first files of a team, a DAG or a step. They pass `kommuna check` unchanged."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from kommuna.cli.here import console, installation
from kommuna.errors import KommunaError, SpecError, TeamMistake
from kommuna.spec.names import TEAM_PATTERN
from kommuna.spec.team import Platform

app = typer.Typer(no_args_is_help=True, help="Create a team, a DAG or a step.")

_TEAM = """\
  {name}:
    bundle: dags/{name}
    people: {{}}  # login: op or viewer
    pools: {{default: 4}}
"""
_DAG = '''\
"""{title}: rules vote, a classifier learns, the champion tags new messages."""

from kommuna.airflow import weak_supervision_dag

weak_supervision_dag(
    "{name}",
    model="{name}",
    columns={{"id": "String", "text": "String"}},
    rules="{name}.yaml",
    messages="store://inbox/{name}/messages.csv",
    dev="store://inbox/{name}/dev.csv",
    gold="store://inbox/{name}/gold.csv",
    new_messages="store://inbox/{name}/new_messages.csv",
)
'''
_RULES = """\
# Tags, and rules that vote for them. `kommuna rules test {name}.yaml MESSAGES --labels DEV` shows how they do.
tags: [card, other]
otherwise: other
rules:
  - name: mentions_a_card
    tag: card
    any: [card, карта]
"""
_STEP = '''\
"""Step: {title}."""

from typing import NamedTuple

import polars as pl


class Outputs(NamedTuple):
    """The outputs of `{name}`."""

    table: pl.LazyFrame


def {name}(table: pl.LazyFrame, *, text: str = "text") -> Outputs:
    """Adds the number of characters of each text.

    Args:
        table: the rows.
        text: the text column.
    """
    return Outputs(table.with_columns(pl.col(text).str.len_chars().alias("characters")))
'''
_USE = """\
in a DAG of the team:
  from kommuna.airflow import StepOperator
  StepOperator(task_id="{name}", function="{name}:{name}", inputs={{"table": read["table"]}})"""

Name = Annotated[str, typer.Argument(help="Its name: letters, digits and _.")]
OfTeam = Annotated[str, typer.Option("--team", help="The team.")]


@app.command()
def team(name: Name) -> None:
    """Add a team to kommuna.yaml, with a folder for its DAG files."""
    if not re.match(TEAM_PATTERN, name):
        raise SpecError(
            f"'{name}' is not a valid team name", fix="use at least three lower-case letters and digits, a letter first"
        )
    here = installation()
    path = here.root / "kommuna.yaml"
    if name in here.platform.teams:
        raise TeamMistake(f"team '{name}' already exists", where=str(path))
    before = path.read_text(encoding="utf-8")
    after, found = re.subn(
        r"^teams:[ \t]*(#.*)?\n", lambda line: line[0] + _TEAM.format(name=name), before, count=1, flags=re.MULTILINE
    )
    if not found:
        entry = _TEAM.format(name=name)
        raise SpecError("'teams:' is not on a line of its own", where=str(path), fix=f"add the team by hand:\n{entry}")
    path.write_text(after, encoding="utf-8")
    try:
        Platform.from_yaml(path)
    except KommunaError:
        path.write_text(before, encoding="utf-8")
        raise
    (here.root / "dags" / name).mkdir(parents=True, exist_ok=True)
    console.print(f"added team {name} to {path}; its DAG files belong in {here.root / 'dags' / name}")
    console.print("restart the platform to apply it: kommuna down, then kommuna up")


@app.command()
def dag(name: Name, team: OfTeam) -> None:
    """Create a DAG that tags messages, with its rules file."""
    bundle = _bundle(team, name)
    _write(bundle / f"{name}.py", _DAG.format(name=name, title=_title(name)))
    _write(bundle / f"{name}.yaml", _RULES.format(name=name))
    console.print(
        f"next: kommuna put FILE {name}/messages.csv --team {team}; the same for dev.csv, gold.csv, new_messages.csv"
    )
    console.print(f"then: kommuna check {bundle}")


@app.command()
def step(name: Name, team: OfTeam) -> None:
    """Create a step in the team's bundle: a typed function over tables."""
    _write(_bundle(team, name) / f"{name}.py", _STEP.format(name=name, title=_title(name)))
    console.print(_USE.format(name=name))


def _bundle(team: str, name: str) -> Path:
    if not name.isidentifier() or not name.isascii():
        raise SpecError(f"'{name}' is not a valid Python name", fix="use letters, digits and _, a letter first")
    here = installation()
    here.require_team(team)
    bundle = here.bundle(team)
    bundle.mkdir(parents=True, exist_ok=True)
    return bundle


def _write(path: Path, text: str) -> None:
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise TeamMistake("the file already exists", where=str(path), fix="choose another name") from None
    console.print(str(path))


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()
