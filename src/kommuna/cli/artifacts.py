"""`kommuna show`, `kommuna why` and `kommuna gc`: inspect and clean the store."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text
from rich.tree import Tree

from kommuna.cli.here import console, installation, store
from kommuna.cli.tables import AsJson, print_dearest, print_json, print_table, records
from kommuna.clients.mlflow import MlflowApi
from kommuna.errors import RegistryError
from kommuna.store import Manifest, Store
from kommuna.store.found import found_by_key
from kommuna.store.gc import collect
from kommuna.store.why import between, not_given

app = typer.Typer()


@app.command()
def show(
    key: Annotated[str, typer.Argument(help="A manifest's key, or its first characters.")],
    team: Annotated[str | None, typer.Option(help="The team whose store is searched; all if absent.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show a step's manifest, with its lineage as a tree."""
    manifest, where = _manifest(key, team)
    if as_json:
        print_json(manifest.model_dump(mode="json"))
    else:
        _show_manifest(manifest, where)


@app.command()
def why(
    first: Annotated[str, typer.Argument(help="A manifest's key, or its first characters.")],
    second: Annotated[str, typer.Argument(help="The key of another manifest.")],
    team: Annotated[str | None, typer.Option(help="The team whose store is searched; all if absent.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show what differs between two runs of a step, and so why the second did not reuse the first one's result."""
    found = list(between(_manifest(first, team)[0], _manifest(second, team)[0]))
    if as_json:
        print_json({"differences": found})
        return
    for line in found:
        console.print(f"- {line}")
    if not found:
        console.print("No relevant difference: both runs had the same inputs, and used the same code and data.")


def _manifest(key: str, team: str | None) -> tuple[Manifest, Store]:
    return found_by_key(key, [store(name) for name in ([team] if team else installation().platform.teams)])


@app.command()
def gc(
    team: Annotated[str | None, typer.Option(help="Only this team's store.")] = None,
    keep_days: Annotated[
        float | None, typer.Option(help="Remove manifests older than this; all are kept if absent.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count only, remove nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove artifacts that no manifest and no registered model refers to."""
    rows: list[tuple[object, ...]] = []
    for name in [team] if team else list(installation().platform.teams):
        removed = collect(store(name), registered=_registered(name), keep_days=keep_days, dry_run=dry_run)
        rows.append((name, removed.manifests, removed.artifacts, removed.bytes))
    if as_json:
        print_json(records(("team", "manifests", "artifacts", "bytes"), rows))
        return
    console.print("Would remove:" if dry_run else "Removed:")
    print_table(console, ("team", "manifests", "artifacts", "bytes"), rows)


def _registered(team: str) -> set[str]:
    """Returns the digests and manifest keys that the team's registered models refer to.

    Raises:
        RegistryError: MLflow does not answer; then nothing is removed.
    """
    services = installation().services(team)
    try:
        versions = list(MlflowApi.from_services(services).versions())
    except RegistryError as error:
        raise RegistryError(
            f"cannot list the registered models of MLflow at {services.mlflow}: {error.what}",
            fix="start it (`kommuna up`): without the list nothing is removed",
        ) from None
    tags = [tag for version in versions for tag in version.get("tags", [])]
    return {tag["value"] for tag in tags if tag["key"].startswith("kommuna.")}


def _show_manifest(manifest: Manifest, where: Store) -> None:
    console.print(Text.assemble((manifest.function, "bold"), f"  team {manifest.team}"))
    console.print(f"key {manifest.key}")
    for reason in not_given(manifest):
        console.print(f"not reusable: {reason}")
    if manifest.expires is not None:
        console.print(f"reusable until {manifest.expires:%Y-%m-%d %H:%M} UTC")
    if manifest.dag_id:
        console.print(f"made by {manifest.dag_id} · {manifest.task_id} · {manifest.run_id}")
    console.print(
        f"{manifest.started:%Y-%m-%d %H:%M:%S} UTC, {manifest.seconds:.2f} s, "
        f"{manifest.processor_seconds:.2f} s of processor time, "
        f"peak {manifest.peak_memory_bytes >> 20} MiB",
    )
    outputs = [
        (name, a.kind, a.rows, a.bytes, where.url(a) if where.has(a) else "removed")
        for name, a in manifest.outputs.items()
    ]
    print_table(console, ("output", "kind", "rows", "bytes", "URL"), outputs)
    if manifest.metrics:
        metrics = [(name, f"{value:.6g}") for name, value in sorted(manifest.metrics.items())]
        print_table(console, ("metric", "value"), metrics)
    seen: dict[str, Manifest] = {}
    console.print(_lineage(manifest, where, Tree(f"{manifest.function} {manifest.key[:12]}"), seen))
    if len(seen) > 1:
        steps = [
            (one.task_id or one.function, one.seconds, one.processor_seconds, one.peak_memory_bytes)
            for one in seen.values()
        ]
        print_dearest(console, steps)


def _lineage(manifest: Manifest, where: Store, tree: Tree, seen: dict[str, Manifest]) -> Tree:
    seen[manifest.key] = manifest
    for line in manifest.lineage:
        upstream = where.manifest(line.manifest) if line.manifest else None
        if upstream is None:
            tree.add(f"{line.input}: {line.source or line.digest[:12]}")
            continue
        label = f"{line.input}: {upstream.function}[{line.output}] {upstream.key[:12]}"
        branch = tree.add(f"{label} (above)" if upstream.key in seen else label)
        if upstream.key not in seen:
            _lineage(upstream, where, branch, seen)
    return tree
