"""`kommuna models rebuild`: trains a registered version again from its record, and compares every step."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kommuna.cli.here import installation, message_console, store, team_of_model
from kommuna.cli.tables import AsJson, print_json, print_table, records
from kommuna.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kommuna.runtime.rebuild import RebuiltStep
    from kommuna.store import Manifest

_COLUMNS = ("task", "step", "verdict", "output", "recorded", "rebuilt")


app = typer.Typer()


@app.command()
def rebuild(
    name: Annotated[str, typer.Argument(help="The registered model, with its team: support__topics.")],
    version: Annotated[str, typer.Argument(help="The version.")],
    as_json: AsJson = False,
) -> None:
    """Train a version again from its record, in a scratch folder, and compare what each step makes."""
    from kommuna.runtime.rebuild import Rebuild
    from kommuna.steps.registry.client import Registry
    from kommuna.steps.registry.model_version import MANIFEST, MODEL_DIGEST

    team, here = team_of_model(name), installation()
    found = Registry.from_services(here.services(team)).version(name, version)
    if found is None:
        raise SpecError(f"{name} has no version {version}", fix=f"`kommuna models list {name}` shows its versions")
    key, digest = found.tags.get(MANIFEST, ""), found.tags.get(MODEL_DIGEST, "")
    record = store(team).record(key) if key else None
    if record is None:
        raise SpecError(
            f"{name} version {version} has no record in the store"
            + (f": the manifest {key[:12]} is gone" if key else ": no step of Kommuna trained it"),
            fix="only versions that `register` made of a step's model can be rebuilt",
        )
    say = message_console(as_json=as_json)
    say.print(f"{name} version {version}: {_origin(record)}")
    with tempfile.TemporaryDirectory(prefix="kommuna-rebuild-") as folder:
        work = Rebuild(store(team), key, Path(folder), bundle=here.bundle(team))
        changes = work.changes()
        if changes:
            say.print("Not as it was, so the result may differ:")
            for line in changes:
                say.print(f"- {line}")
            if (environment := record.environment) is not None and environment.code is not None:
                say.print(f"The libraries of then are in {store(team).url(environment.code)}: requirements.txt")
        steps = []
        for step in work.run():
            say.print(f"{step.manifest.task_id or step.manifest.function}: {_said(step)}")
            steps.append(step)
    is_equal, sentence = _sentence(steps, digest, changed=bool(changes))
    rows = [row for step in steps for row in _rows(step)]
    if as_json:
        print_json(
            {
                "name": name,
                "version": version,
                "equal": is_equal,
                "sentence": sentence,
                "changes": changes,
                "steps": [{"why": step.why, "verdict": step.verdict, "key": step.manifest.key} for step in steps],
                "outputs": records(_COLUMNS, rows),
            }
        )
    else:
        print_table(say, _COLUMNS, rows)
    say.print(f"{name} version {version} {sentence}")
    if not is_equal:
        raise typer.Exit(1)


def _origin(record: Manifest) -> str:
    run = f"{record.dag_id} · {record.task_id} · {record.run_id}, " if record.dag_id else ""
    environment = record.environment
    commit = f", commit {environment.commit[:12]}" if environment and environment.commit else ""
    dirty = " and files that were not committed" if environment and environment.dirty else ""
    return f"trained {record.started:%Y-%m-%d %H:%M} UTC by {run}Kommuna {record.version}{commit}{dirty}"


def _said(step: RebuiltStep) -> str:
    return {
        "equal": "equal",
        "differs": f"differs: {step.why}",
        "stored": f"not run again, its stored outputs are used: {step.why}",
        "gone": f"cannot be run again, and its outputs are gone: {step.why}",
    }[step.verdict]


def _rows(step: RebuiltStep) -> list[tuple[object, ...]]:
    manifest = step.manifest
    return [
        (manifest.task_id, manifest.function, step.verdict, output, before[:12], now[:12])
        for output, (before, now) in step.outputs.items()
    ]


def _sentence(steps: Sequence[RebuiltStep], digest: str, *, changed: bool) -> tuple[bool, str]:
    """Returns whether the model is the registered one, and the outcome in words."""
    last = steps[-1]
    names = {step.manifest.key: step.manifest.task_id or step.manifest.function for step in steps}
    differing = [names[step.manifest.key] for step in steps if step.verdict == "differs"]
    stored = [names[step.manifest.key] for step in steps if step.verdict == "stored"]
    if last.verdict in ("stored", "gone"):
        return False, f"cannot be rebuilt: {last.why}"
    if digest not in {now for _, now in last.outputs.values()}:
        why = "; see above what has changed since" if changed else ", though nothing that is recorded has changed"
        return False, f"differs, first in the step {differing[0]}{why}"
    if differing:
        return True, f"is equal, given the recorded outputs of steps that differ: {', '.join(differing)}"
    if stored:
        ran = len(steps) - len(stored)
        was = "was" if ran == 1 else "were"
        others = f"the others' stored outputs were used: {', '.join(stored)}"
        return True, f"is equal: {ran} of {len(steps)} steps {was} rebuilt, {others}"
    return True, f"is equal: {len(steps)} steps were rebuilt from its sources"
