"""Which platform this is, and which team a DAG file belongs to."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

from kommuna.errors import SpecError, nearest
from kommuna.spec.step import Services, StoreAddress
from kommuna.spec.team import Platform, Team

PLATFORM_VARIABLE = "KOMMUNA_PLATFORM"
TEAM_VARIABLE = "KOMMUNA_TEAM"
AT_HAND_VARIABLE = "KOMMUNA_AT_HAND"  # set where a person runs a DAG in a process of their own, with a terminal maybe


@dataclass(frozen=True)
class Installation:
    """The platform's description and the folder that its paths are relative to."""

    platform: Platform
    root: Path

    def store(self) -> StoreAddress:
        """Where artifacts live."""
        url = self.platform.store or (self.root / self.platform.state / "store").as_uri()
        return StoreAddress(url=url, options=self.platform.store_options)

    def services(self, team: str) -> Services:
        """Where a team's services are."""
        mlflow = self.platform.mlflow or f"http://127.0.0.1:{self.platform.ports.mlflow}"
        pages = self.platform.mlflow_pages
        return Services(mlflow=mlflow, mlflow_pages=pages, workspace=team, llm=self.platform.llm)

    def require_team(self, team: str) -> None:
        """Checks that a team exists.

        Raises:
            SpecError: there is none of that name; the nearest is named.
        """
        if team not in self.platform.teams:
            raise SpecError(
                f"no team '{team}'{nearest(team, self.platform.teams)}",
                where=str(self.root / "kommuna.yaml"),
                fix=f"the teams are: {', '.join(self.platform.teams)}",
            )

    def bundle(self, team: str) -> Path:
        """A team's folder of DAG files."""
        return (self.root / self.platform.teams[team].bundle).resolve()


@dataclass(frozen=True)
class Place:
    """Where a DAG file stands: its team and the team's bundle."""

    installation: Installation
    team: str
    bundle: Path

    @property
    def spec(self) -> Team:
        """The team's description."""
        return self.installation.platform.teams[self.team]


def place_of(file: str | Path) -> Place:
    """The team that a DAG file belongs to.

    The bundle's folder decides. In a process that serves one team only (a worker pod, a parser), whose checkout may
    be anywhere, `KOMMUNA_TEAM` does.

    Raises:
        SpecError: the file is in no team's bundle.
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
        f"{path.name} is in no team's bundle",
        where=str(path),
        fix="put it into a folder that kommuna.yaml names as a team's bundle: "
        + ", ".join(str(installation.bundle(name)) for name in installation.platform.teams),
    )


def find_installation(start: Path) -> Installation:
    """The platform of `KOMMUNA_PLATFORM`, or of the nearest kommuna.yaml at or above a path.

    Raises:
        SpecError: there is none, or it does not fit the model.
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
