"""`kommuna put`, `kommuna demo-data` and `kommuna schema`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from kommuna.cli.here import console, store
from kommuna.errors import DataError, SpecError, nearest
from kommuna.extras import needed_by
from kommuna.spec.base import Spec
from kommuna.spec.chart import ChartValues
from kommuna.spec.resources import Resources
from kommuna.spec.rules import RuleSet
from kommuna.spec.step import StepSpec
from kommuna.spec.table import TableSchema
from kommuna.spec.team import Platform, Team

app = typer.Typer()

SCHEMAS: dict[str, type[Spec]] = {
    "platform": Platform,
    "team": Team,
    "chart": ChartValues,
    "rules": RuleSet,
    "resources": Resources,
    "step": StepSpec,
    "table": TableSchema,
}


@app.command("demo-data")
def demo_data(
    folder: Annotated[Path, typer.Argument(help="Where to write the files.")] = Path("build/demo-data"),
    messages: Annotated[int, typer.Option(help="Number of messages, and of card transactions.")] = 20_000,
    seed: Annotated[int, typer.Option(help="The same seed gives the same bytes.")] = 7,
) -> None:
    """Generate bank messages and card transactions, with the true tags and imperfect assessors."""
    from rich.progress import Progress

    with needed_by("`kommuna demo-data`"):
        from kommuna.demo.write import write_demo_data

    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("rows", total=None)
        made = write_demo_data(
            folder,
            messages=messages,
            seed=seed,
            on_progress=lambda done, total: progress.update(bar, completed=done, total=total),
        )
    for name, rows in made.rows.items():
        console.print(f"{made.folder / name}: {rows:,} rows")


@app.command()
def put(
    file: Annotated[Path, typer.Argument(help="The file to copy.")],
    name: Annotated[str, typer.Argument(help="Its name in the inbox; the file's own name if absent.")] = "",
    team: Annotated[str, typer.Option(help="The team whose inbox it is copied to.")] = ...,  # type: ignore[assignment]
) -> None:
    """Copy a file to a team's inbox in the store, where its DAGs read it as store://inbox/NAME."""
    if not file.is_file():
        raise DataError("not a file" if file.exists() else "no such file", where=str(file), fix="name one file")
    relative = f"inbox/{name.removeprefix('store://inbox/') or file.name}"
    store(team).put_inbox(file, relative)
    console.print(f"store://{relative}: {file.stat().st_size:,} bytes")


@app.command()
def schema(name: Annotated[str, typer.Argument(help=f"One of: {', '.join(SCHEMAS)}")]) -> None:
    """Print the JSON schema of a file that people write, so that an editor can complete it."""
    if name not in SCHEMAS:
        raise SpecError(f"no schema '{name}'{nearest(name, SCHEMAS)}", fix=f"the schemas are: {', '.join(SCHEMAS)}")
    document = {"$schema": "https://json-schema.org/draft/2020-12/schema", **_closed(SCHEMAS[name].model_json_schema())}
    typer.echo(json.dumps(document, indent=2))


def _closed(schema: Any) -> Any:
    """Closes mappings with patterned names to all other names, as pydantic itself does."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(item) for name, item in schema.items()}
    return closed | {"additionalProperties": False} if "patternProperties" in schema else closed
