"""Finds the platform's description, and the team that a DAG file belongs to."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from kommuna.errors import SpecError, nearest
from kommuna.spec.llm import LlmBudgets, Llms
from kommuna.spec.step import Services, StoreAddress
from kommuna.spec.team import Platform, Team

PLATFORM_VARIABLE = "KOMMUNA_PLATFORM"
TEAM_VARIABLE = "KOMMUNA_TEAM"
AT_HAND_VARIABLE = "KOMMUNA_AT_HAND"  # set where a person runs a DAG locally, possibly at a terminal


@dataclass(frozen=True)
class Installation:
    """The platform's description and the folder that its paths are relative to."""

    platform: Platform
    root: Path

    def store(self) -> StoreAddress:
        """Returns the address of the artifact store."""
        url = self.platform.store or (self.root / self.platform.state / "store").as_uri()
        return StoreAddress(url=url, options=self.platform.store_options)

    def services(self, team: str) -> Services:
        """Returns the addresses of a team's services."""
        mlflow = self.platform.mlflow or f"http://127.0.0.1:{self.platform.ports.mlflow}"
        pages = self.platform.mlflow_pages
        spec = self.platform.teams.get(team)
        return Services(
            mlflow=mlflow,
            mlflow_pages=pages,
            workspace=team,
            llm=self.platform.llm.of(team),
            llm_budgets=spec.llm if spec else LlmBudgets(),
        )

    def require_team(self, team: str) -> None:
        """Checks that a team exists.

        Raises:
            SpecError: there is no such team. The message names the nearest one.
        """
        if team not in self.platform.teams:
            raise SpecError(
                f"no team '{team}'{nearest(team, self.platform.teams)}",
                where=str(self.root / "kommuna.yaml"),
                fix=f"the teams are: {', '.join(self.platform.teams)}",
            )

    def bundle(self, team: str) -> Path:
        """Returns a team's folder of DAG files."""
        return (self.root / self.platform.teams[team].bundle).resolve()


@dataclass(frozen=True)
class Place:
    """The location of a DAG file: its team and the team's bundle."""

    installation: Installation
    team: str
    bundle: Path

    @property
    def spec(self) -> Team:
        """The team's description."""
        return self.installation.platform.teams[self.team]

    @property
    def llms(self) -> Llms:
        """The LLM endpoints that the team may use."""
        return self.installation.platform.llm.of(self.team)


def place_of(file: str | Path) -> Place:
    """Finds the team that a DAG file belongs to.

    The file belongs to the team whose bundle folder contains it. In a process that serves only one team (a worker pod,
    a parser), the checkout may be anywhere; there the variable `KOMMUNA_TEAM` names the team.

    Raises:
        SpecError: the file is not in any team's bundle.
    """
    path = Path(file).resolve()
    installation = find_installation(path)
    for team in installation.platform.teams:
        bundle = installation.bundle(team)
        if path.is_relative_to(bundle):
            return Place(installation, team, bundle)
    team = os.environ.get(TEAM_VARIABLE, "")
    if team in installation.platform.teams:
        return Place(installation, team, path.parent)
    raise SpecError(
        f"{path.name} is not in any team's bundle",
        where=str(path),
        fix="put it into a folder that kommuna.yaml names as a team's bundle: "
        + ", ".join(str(installation.bundle(name)) for name in installation.platform.teams),
    )


def find_installation(start: Path) -> Installation:
    """Reads the file that `KOMMUNA_PLATFORM` names, or the nearest kommuna.yaml at or above a path.

    Raises:
        SpecError: there is no such file, or it does not fit the model.
    """
    named = os.environ.get(PLATFORM_VARIABLE)
    if named:
        return _read(Path(named), Path(named).stat().st_mtime_ns) if Path(named).is_file() else _missing(named)
    for folder in (start, *start.parents):
        path = folder / "kommuna.yaml"
        if path.is_file():
            return _read(path, path.stat().st_mtime_ns)
    return _missing(str(start))


@functools.lru_cache(maxsize=8)
def _read(path: Path, _changed: int) -> Installation:
    return Installation(Platform.from_yaml(path), path.resolve().parent)


def _missing(where: str) -> Installation:
    raise SpecError("no kommuna.yaml was found", where=where, fix=f"set {PLATFORM_VARIABLE} to the file's path")
