"""The `kommuna` command: its sub-commands, and how an error is shown."""

from __future__ import annotations

import sys
from typing import Annotated

import structlog
import typer
from rich.console import Console
from rich.text import Text

import kommuna
from kommuna.cli import artifacts, data, explain, new, platform, rules, steps
from kommuna.cli.check import command as check
from kommuna.cli.run_dag import command as run_dag
from kommuna.errors import KommunaError
from kommuna.extras import not_installed


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kommuna {kommuna.__version__}")
        raise typer.Exit


app = typer.Typer(
    name="kommuna",
    help="A communal ML platform: one Airflow that many ML teams share.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for part in (platform.app, check.app, run_dag.app, artifacts.app, data.app, explain.app, steps.app):
    app.registered_commands.extend(part.registered_commands)
app.add_typer(rules.app, name="rules")
app.add_typer(new.app, name="new")


@app.callback()
def _every_command(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="Print the version and end.", callback=_version)
    ] = False,
) -> None:
    """A communal ML platform: one Airflow that many ML teams share."""
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(sys.stderr))  # stdout has the command's answer


def main() -> None:
    """Runs the command; an error of ours is three lines, not a traceback, and its branch is the exit code."""
    try:
        app()
    except (KommunaError, ModuleNotFoundError) as error:
        if isinstance(error, ModuleNotFoundError):
            error = not_installed(error, "this command")
        console = Console(stderr=True, markup=False, emoji=False)
        console.print(Text.assemble(("error:", "bold red"), f" {error}"), soft_wrap=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
