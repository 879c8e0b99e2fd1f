"""`kommuna models`: the champions of the registered models, and what people decide about them."""

from __future__ import annotations

import getpass
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from kommuna.cli import manifest, rebuild
from kommuna.cli.here import console, installation, team_of_model
from kommuna.cli.tables import AsJson, print_json, print_table, records

if TYPE_CHECKING:
    from kommuna.steps.registry.client import Registry
    from kommuna.steps.registry.standing import Standing

app = typer.Typer(help="The champions of the registered models.", no_args_is_help=True)
app.add_typer(rebuild.app)
app.add_typer(manifest.app)

Name = Annotated[str, typer.Argument(help="The registered model, with its team: support__topics.")]
Reason = Annotated[str, typer.Option(help="Why, for those who see the pin.")]
Until = Annotated[
    datetime | None,
    typer.Option(
        help="When the gate decides again, in UTC; a person must unpin it if absent.",
        formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M"],
    ),
]


@app.command("list")
def list_models(
    name: Annotated[str, typer.Argument(help="One model: shows its versions and the decisions.")] = "",
    team: Annotated[str | None, typer.Option(help="Only this team's models.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the models with their champions and pins, or one model's versions and decisions."""
    if name:
        _show(_registry(team_of_model(name)), name, as_json=as_json)
        return
    rows: list[tuple[object, ...]] = []
    for owner in [team] if team else list(installation().platform.teams):
        rows += [(one.name, one.version, _held(one)) for one in _registry(owner).standings()]
    columns = ("model", "champion", "held")
    if as_json:
        print_json(records(columns, rows))
    else:
        print_table(console, columns, rows)


@app.command()
def pin(
    name: Name,
    reason: Reason,
    version: Annotated[str, typer.Argument(help="The version; the present champion if absent.")] = "",
    until: Until = None,
) -> None:
    """Keep a version the champion, whatever the gate says."""
    from kommuna.steps.registry import pinning

    _say(
        pinning.pin(
            _registry(team_of_model(name)), name, version=version, by=_person(), reason=reason, until=_utc(until)
        )
    )


@app.command()
def rollback(
    name: Name,
    reason: Reason,
    to: Annotated[str, typer.Option(help="The version; the champion before the present one if absent.")] = "",
    until: Until = None,
) -> None:
    """Make a former version the champion again, and pin it."""
    from kommuna.steps.registry import pinning

    _say(
        pinning.rollback(
            _registry(team_of_model(name)), name, version=to, by=_person(), reason=reason, until=_utc(until)
        )
    )


@app.command()
def unpin(name: Name, reason: Annotated[str, typer.Option(help="Why, for the history.")] = "") -> None:
    """Let the gate decide again, after a pin or a move by hand in MLflow."""
    from kommuna.steps.registry import pinning

    _say(pinning.unpin(_registry(team_of_model(name)), name, by=_person(), reason=reason))


def _show(registry: Registry, name: str, *, as_json: bool) -> None:
    standing, versions = registry.standing(name), registry.versions(name)
    rows = [
        (one.version, ", ".join(one.aliases), *(one.tags.get(f"kommuna.{tag}", "") for tag in _TAGS))
        for one in versions
    ]
    columns = ("version", "aliases", *(tag.replace("_", " ") for tag in _TAGS))
    decisions = [one.model_dump(mode="json") for one in standing.history]
    if as_json:
        print_json(
            {
                "name": name,
                "champion": standing.version,
                "held": _held(standing),
                "versions": records(columns, rows),
                "decisions": decisions,
            }
        )
        return
    _say(standing)
    print_table(console, columns, rows)
    print_table(console, _DECISION, [tuple(one[column] for column in _DECISION) for one in decisions])


_TAGS = ("verdict", "reason", "decided_by", "decided_at")
_DECISION = ("at", "by", "action", "before", "after", "reason")


def _say(standing: Standing) -> None:
    champion = f"version {standing.version} is the champion" if standing.version else "there is no champion"
    console.print(f"{standing.name}: {champion}" + (f"; {held}" if (held := standing.held()) else ""))


def _held(standing: Standing) -> str:
    return standing.held().partition("; ")[0]


def _registry(team: str) -> Registry:
    from kommuna.steps.registry.client import Registry

    here = installation()
    here.require_team(team)
    return Registry.from_services(here.services(team))


def _person() -> str:
    """Returns who runs the command, as this machine and MLflow's login say; nobody checks it."""
    login = os.environ.get("MLFLOW_TRACKING_USERNAME")
    return f"{getpass.getuser()} (MLflow login {login})" if login else getpass.getuser()


def _utc(when: datetime | None) -> datetime | None:
    return when.replace(tzinfo=UTC) if when is not None else None
