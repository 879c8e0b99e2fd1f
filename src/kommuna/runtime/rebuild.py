"""Rebuilds a step's outputs from its manifest and those of all steps before it, in a store of its own.

Nothing is written to the team's store or to the registry, and no service is asked.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kommuna.errors import EXIT_DONE, KommunaError
from kommuna.runtime.environment_record import BUNDLE, INPUTS, processor
from kommuna.spec.caching import INTERPRETER
from kommuna.spec.resources import Resources
from kommuna.spec.step import ArtifactInput, FileInput, StepResult, StepSpec, StoreAddress
from kommuna.spec.versions import FORMAT, VERSIONS
from kommuna.store import Artifact, Lineage, Manifest, Store
from kommuna.store.digests import NONE
from kommuna.store.distributions import SHARED_STEPS, installed
from kommuna.store.inputs import find_inputs
from kommuna.store.question import Question, differences

Verdict = Literal["equal", "differs", "stored", "gone"]


@dataclass(frozen=True)
class RebuiltStep:
    """What a rebuild found about one step.

    Attributes:
        manifest: the recorded run.
        verdict: `equal` or `differs` after it ran again; `stored` if its stored outputs were used instead, `gone` if
            there are none.
        outputs: by name, the recorded digest and that of the rebuild; the latter is empty where the step did not run.
        why: why it was not rebuilt, or which outputs differ.
    """

    manifest: Manifest
    verdict: Verdict
    outputs: dict[str, tuple[str, str]]
    why: str = ""


class Rebuild:
    """Rebuilds a manifest's outputs.

    Args:
        store: the team's store, which is only read.
        key: the manifest's key.
        folder: an empty folder for the rebuilt steps.
        bundle: the team's present bundle; its files are used where they still have the recorded digest.

    Raises:
        KommunaError: the manifest is gone.
    """

    def __init__(self, store: Store, key: str, folder: Path, *, bundle: Path | None = None) -> None:
        self._store = store
        self._folder = folder
        self._bundle = bundle
        self._scratch = Store(StoreAddress(url=(folder / "store").as_uri()), store.team)
        self._keys: dict[str, str] = {}  # of the rebuilt or copied manifest, by that of the recorded one
        self.steps = list(_in_order(store, key))

    def changes(self) -> list[str]:
        """Describes how this machine differs from those on which the steps ran."""
        found: dict[str, dict[str, None]] = {}
        for manifest in self.steps:
            for change in _changes(manifest):
                found.setdefault(change, {})[manifest.task_id or manifest.function] = None
        return [f"{change} ({', '.join(tasks)})" for change, tasks in found.items()]

    def run(self) -> Iterator[RebuiltStep]:
        """Rebuilds the steps in order, sources first, and compares each with its record.

        The next steps are given the recorded outputs if a step differs, so each step is judged by itself.
        """
        for manifest in self.steps:
            yield self._rebuilt(manifest)

    def _rebuilt(self, manifest: Manifest) -> RebuiltStep:
        recorded = {name: artifact.digest for name, artifact in manifest.outputs.items()}
        try:
            made = self._run(manifest, self._spec(manifest))
        except _NotRebuilt as reason:
            outputs = {name: (digest, "") for name, digest in recorded.items()}
            return RebuiltStep(manifest, "stored" if self._copy(manifest) else "gone", outputs, str(reason))
        outputs = {name: (digest, _digest(made.outputs.get(name))) for name, digest in recorded.items()}
        different = [name for name, (before, now) in outputs.items() if before != now]
        if not different or not self._copy(manifest):
            self._keys[manifest.key] = made.key
        return RebuiltStep(manifest, "differs" if different else "equal", outputs, ", ".join(different))

    def _spec(self, manifest: Manifest) -> StepSpec:
        """Returns the spec that runs a step again.

        Raises:
            _NotRebuilt: the record, or an input, is not complete.
        """
        question, uses = manifest.question, manifest.uses
        if question is None or uses is None:
            raise _NotRebuilt("its manifest does not say what it used")
        if uses.services:
            asked = sorted({name.partition(".")[0] for name in uses.services})
            raise _NotRebuilt(f"it asked {' and '.join(asked)}, and would be answered anew")
        folder = self._folder / manifest.key
        folder.mkdir(parents=True)
        self._unpack(manifest, folder)
        environment = manifest.environment
        return StepSpec(
            function=manifest.function,
            team=manifest.team,
            store=self._scratch.address,
            inputs=self._inputs(manifest, question, folder),
            params=manifest.params,
            resources=environment.resources if environment else Resources(cpu=str(question.threads)),
            bundle=str(folder / BUNDLE),
            dag_id=manifest.dag_id,
            run_id=manifest.run_id,
            task_id=manifest.task_id,
            cache=False,
        )

    def _unpack(self, manifest: Manifest, folder: Path) -> None:
        (folder / BUNDLE).mkdir()
        (folder / INPUTS).mkdir()
        code = manifest.environment.code if manifest.environment else None
        if code is None:
            return
        try:
            with tarfile.open(self._store.fetch(code, folder)) as archive:
                archive.extractall(folder, filter="data")
        except (KommunaError, tarfile.TarError) as error:
            raise _NotRebuilt(f"the archive of its code is gone: {error}") from None

    def _inputs(self, manifest: Manifest, question: Question, folder: Path) -> dict[str, Any]:
        """Returns the inputs of a step, nested as they were."""
        inputs: dict[str, Any] = {}
        for line in manifest.lineage:
            name, _, part = line.input.partition(".")
            nested = question.inputs.get(name)
            found = self._input(line, folder)
            if isinstance(nested, dict):
                inputs.setdefault(name, {})[part] = found
            elif isinstance(nested, list):
                inputs.setdefault(name, []).append(found)
            else:
                inputs[name] = found
        return inputs

    def _input(self, line: Lineage, folder: Path) -> ArtifactInput | FileInput | None:
        if line.digest == NONE:
            return None
        if line.manifest is not None:
            if line.manifest not in self._keys:
                raise _NotRebuilt(f"input '{line.input}' is gone")
            return ArtifactInput(manifest=self._keys[line.manifest], output=line.output)
        for path in (folder / INPUTS).glob(f"{line.digest}*"):
            return FileInput(url=str(path))
        wanted = StepSpec(
            function="kommuna.steps:check",
            team=self._store.team,
            store=self._store.address,
            inputs={line.input.partition(".")[0]: FileInput(url=line.source)},
            bundle=str(self._bundle or ""),
        )
        try:
            (found,) = find_inputs(wanted, self._store, folder).flat().values()
        except KommunaError as error:
            raise _NotRebuilt(error.what) from None
        assert found.file is not None
        if found.bytes != line.digest:
            raise _NotRebuilt(
                f"{line.source} has changed: it has the digest {found.bytes[:12]}, not {line.digest[:12]}"
            )
        target = folder / INPUTS / f"{line.digest}{found.file.suffix}"
        shutil.copyfile(found.file, target)
        return FileInput(url=str(target))

    def _run(self, manifest: Manifest, spec: StepSpec) -> Manifest:
        folder = self._folder / manifest.key
        given, result_file = folder / "spec.json", folder / "result.json"
        given.write_text(spec.model_dump_json(), encoding="utf-8")
        command = [sys.executable, "-m", "kommuna.runtime", "--die-with-parent"]
        command += ["--spec", str(given), "--result", str(result_file)]
        environment = os.environ | INTERPRETER | {"PYTHONSAFEPATH": "1"}
        with (folder / "log.txt").open("w") as log:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, check=False
            )
        if not result_file.exists():
            raise _NotRebuilt(f"it ended with code {done.returncode} and left no result")
        result = StepResult.model_validate_json(result_file.read_bytes())
        made = self._scratch.manifest(result.key) if result.exit_code == EXIT_DONE else None
        if made is None:
            raise _NotRebuilt(f"it failed: {result.failure.error().what if result.failure else 'no manifest'}")
        return made

    def _copy(self, manifest: Manifest) -> bool:
        """Copies the stored outputs of a step, so that the next steps can use them; False if one is gone."""
        folder = self._folder / "copies"
        folder.mkdir(exist_ok=True)
        try:
            for artifact in manifest.outputs.values():
                copy = folder / "copy"
                shutil.copyfile(self._store.fetch(artifact, folder), copy)
                self._scratch.put(copy, kind=artifact.kind, suffix=artifact.suffix, rows=artifact.rows)
        except KommunaError:
            return False
        self._scratch.write_manifest(manifest.model_copy(update={"plans": {}}))
        self._keys[manifest.key] = manifest.key
        return True


class _NotRebuilt(Exception):
    """Why a step cannot run again."""


def _in_order(store: Store, key: str, seen: set[str] | None = None) -> Iterator[Manifest]:
    """Yields the manifests that a manifest comes from, sources first, and itself."""
    seen = set() if seen is None else seen
    seen.add(key)
    manifest = store.record(key)
    if manifest is None:
        return
    for line in manifest.lineage:
        if line.manifest and line.manifest not in seen:
            yield from _in_order(store, line.manifest, seen)
    yield manifest


def _changes(manifest: Manifest) -> Iterator[str]:
    """Yields what is not as it was when a step ran."""
    question = manifest.question
    if question is not None:
        present = Question(
            function=question.function,
            version=VERSIONS.get(question.function),
            params=question.params,
            inputs=question.inputs,
            format=FORMAT,
            threads=question.threads,
        )
        yield from differences(question, present)
    versions = installed()
    for name, was in manifest.uses.libraries.items() if manifest.uses else ():
        if versions.get(name) != was:
            what = "Kommuna's shared steps" if name == SHARED_STEPS else name
            yield f"{what} {was or '?'} → {versions.get(name) or 'not installed'}"
    was = manifest.environment.processor if manifest.environment else ""
    if was and was != processor():
        yield f"the processor: {was} → {processor()}"


def _digest(artifact: Artifact | None) -> str:
    return artifact.digest if artifact else ""
