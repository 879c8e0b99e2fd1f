"""`load`: an output of a step, in a notebook."""

from __future__ import annotations

import json
import os
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from kommuna.errors import TeamMistake
from kommuna.spec.artifacts import Report
from kommuna.spec.installation import TEAM_VARIABLE, Installation, find_installation
from kommuna.spec.names import owner_of
from kommuna.store.found import found_by_key, found_by_task
from kommuna.store.manifest import Manifest
from kommuna.store.store import Store


def load(result: str, output: str = "", *, team: str = "") -> Any:
    """Reads an output of a step from the artifact store, by the rights of who calls it.

    The store is opened with the caller's own credentials, so that it refuses another team's prefix. In a process of one
    team (`KOMMUNA_TEAM`) only that team's results are found.

    Args:
        result: a manifest's key or its first characters, as `kommuna show` takes it; or `DAG/RUN/TASK`.
        output: the output's name; needed if the step has several.
        team: the team whose store is searched; all that the caller may read if absent.

    Returns:
        A LazyFrame, a `Tagger`, a `Report`, or the content of a JSON document.

    Raises:
        TeamMistake: there is no such result or output, or it belongs to another team.
        StoreError: the store refuses the caller.
    """
    here = find_installation(Path.cwd())
    manifest, store = _found(result, team, here)
    artifact = manifest.outputs.get(output) if output else next(iter(manifest.outputs.values()), None)
    if artifact is None or (not output and len(manifest.outputs) > 1):
        names = ", ".join(manifest.outputs) or "none"
        what = f"has no output '{output}'" if output else "has several outputs, and none is named"
        raise TeamMistake(f"{manifest.function} {what}", fix=f"its outputs: {names}")
    path = store.fetch(artifact, _folder())
    if artifact.kind == "table":
        import polars as pl

        return pl.scan_parquet(path)
    if artifact.kind == "model":
        from kommuna.steps.training.tagger import Tagger

        return Tagger.load(path)
    text = path.read_text(encoding="utf-8")
    return Report(text) if artifact.kind == "report" else json.loads(text)


def _found(result: str, team: str, here: Installation) -> tuple[Manifest, Store]:
    own = os.environ.get(TEAM_VARIABLE, "")
    dag_id, slash, rest = result.partition("/")
    run_id, _, task_id = rest.rpartition("/")
    wanted = team or (owner_of(dag_id) or "" if slash else "") or own
    if own and wanted != own:
        raise TeamMistake(f"'{result}' belongs to team '{wanted}'", fix=f"this process may read those of '{own}'")
    if wanted:
        here.require_team(wanted)
    stores = [Store(here.store(), name) for name in ([wanted] if wanted else here.platform.teams)]
    if not slash:
        return found_by_key(result, stores)
    if len(stores) != 1 or not (run_id and task_id):
        raise TeamMistake(f"'{result}' is not DAG/RUN/TASK", fix="write support__topics/manual__2026-11-30/train")
    return found_by_task(dag_id, run_id, task_id, stores[0])


@cache
def _folder() -> Path:
    """Returns where remote artifacts are kept for as long as the process runs, since tables are read lazily."""
    _kept.append(tempfile.TemporaryDirectory(prefix="kommuna-load-"))
    return Path(_kept[0].name)


_kept: list[tempfile.TemporaryDirectory[str]] = []
