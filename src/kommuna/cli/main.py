"""The `kommuna` command: its sub-commands, and how errors are printed."""

from __future__ import annotations

import signal
import sys
from typing import Annotated, NoReturn

import structlog
import typer
from pydantic import ValidationError
from rich.text import Text
from typer.exceptions import TyperException

import kommuna
from kommuna.cli import artifacts, check_llm, data, explain, llm, models, new, platform, rules, steps
from kommuna.cli.check import command as check
from kommuna.cli.here import message_console
from kommuna.cli.run_dag import command as run_dag
from kommuna.errors import EXIT_MISTAKE, KommunaError, SpecError
from kommuna.extras import not_installed
from kommuna.spec.words import in_words


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
for part in (
    platform.app,
    check.app,
    run_dag.app,
    artifacts.app,
    data.app,
    explain.app,
    steps.app,
    llm.app,
    check_llm.app,
):
    app.registered_commands.extend(part.registered_commands)
app.registered_commands.extend(check_llm.app.registered_commands)
app.add_typer(models.app, name="models")
app.add_typer(rules.app, name="rules")
app.add_typer(new.app, name="new")


@app.callback()
def _every_command(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, help="Print the version and exit.", callback=_version)
    ] = False,
) -> None:
    """A communal ML platform: one Airflow that many ML teams share."""
    structlog.configure(
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr)
    )  # stdout is for the command's output


def main() -> None:
    """Runs the command. A `KommunaError` is printed in three lines without a traceback, and sets the exit code."""
    signal.siginterrupt(signal.SIGINT, True)  # Polars' handler has waiting for another process go on
    try:
        sys.exit(app(standalone_mode=False))
    except KommunaError as error:
        _end_with(error)
    except ModuleNotFoundError as error:
        _end_with(not_installed(error, "this command"))
    except TyperException as error:
        if not error.format_message():  # a group without a command: its help is printed
            sys.exit(EXIT_MISTAKE)
        _end_with(_misuse(error))
    except OSError as error:
        if error.filename is None:
            raise
        _end_with(SpecError(f"{error.filename}: {error.strerror}", fix="give a path that can be read or written"))
    except typer.Abort:
        sys.exit(130)


def _end_with(error: KommunaError) -> NoReturn:
    message_console(as_json=True).print(Text.assemble(("error:", "bold red"), f" {error}"))
    sys.exit(error.exit_code)


def _misuse(error: TyperException) -> KommunaError:
    """Describes what is wrong with a command's arguments."""
    context, what = getattr(error, "ctx", None), error.format_message()
    if isinstance(error.__context__, ValidationError):  # its own message has no value
        option = what.partition(": ")[0]
        what = f"{option}: {in_words(error.__context__.errors()[0])}"
    return SpecError(what, fix=f"see `{context.command_path if context else 'kommuna'} --help`")


if __name__ == "__main__":
    main()
