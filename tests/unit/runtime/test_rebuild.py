"""A step is rebuilt from its manifest: equal, different, from stored outputs, or not at all."""

from __future__ import annotations

import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.rigs.cache import CacheRig

from kommuna.runtime.rebuild import Rebuild, RebuiltStep
from kommuna.spec.step import StepResult
from kommuna.store import Manifest
from kommuna.store.gc import collect

READ = """
from pathlib import Path
from factors import FACTOR


def read(source: Path, *, times: int = 1) -> dict[str, int]:
    return {"sum": sum(map(int, source.read_text().split())) * FACTOR * times}
"""
SUM = """
from pathlib import Path
from typing import NamedTuple


class Model(NamedTuple):
    model: dict[str, int]
    note: dict[str, str]


def train(numbers: dict[str, dict[str, int]], options: dict[str, int]) -> Model:
    extra = int(Path(__file__).with_name("extra.txt").read_text())
    return Model({"total": sum(n["sum"] for n in numbers.values()) + options["add"] + extra}, {"by": "us"})
"""
FILES = {
    "reading.py": READ, "training.py": SUM, "factors.py": "FACTOR = 3\n", "extra.txt": "5", "options.yaml": "add: 7\n",
}  # fmt: skip


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[CacheRig]:
    (tmp_path / "rig").mkdir()
    found = CacheRig(tmp_path / "rig")
    found.write(FILES)
    yield found
    found.close()


@pytest.fixture
def trained(rig: CacheRig, tmp_path: Path) -> Manifest:
    """A model of two files of the inbox, a document and modules of the bundle."""
    parts: dict[str, StepResult] = {}
    for name, numbers in (("first", "1 2"), ("second", "10 20")):
        (tmp_path / name).write_text(numbers)
        rig.store.put_inbox(tmp_path / name, f"inbox/{name}.txt")
        source = {"url": f"store://inbox/{name}.txt"}
        parts[name] = rig.run("reading:read", inputs={"source": source}, params={"times": 2}, task_id=name).result
    numbers_ = {name: {"manifest": result.key, "output": "result"} for name, result in parts.items()}
    done = rig.run("training:train", inputs={"numbers": numbers_, "options": {"url": "options.yaml"}}, task_id="train")
    assert done.content["model"] == {"total": 198 + 7 + 5}
    return rig.manifest(done.result)


def rebuilt(rig: CacheRig, manifest: Manifest, folder: Path) -> dict[str, RebuiltStep]:
    folder.mkdir()
    work = Rebuild(rig.store, manifest.key, folder, bundle=rig.bundle)
    assert not work.changes()
    return {step.manifest.task_id: step for step in work.run()}


def test_every_step_is_equal_though_the_bundle_is_gone(rig: CacheRig, trained: Manifest, tmp_path: Path) -> None:
    before = sorted(path for path in Path(rig.store.root).rglob("*") if path.is_file())
    rig.write(dict.fromkeys(FILES))
    found = rebuilt(rig, trained, tmp_path / "work")
    assert {task: step.verdict for task, step in found.items()} == dict.fromkeys(("first", "second", "train"), "equal")
    assert list(found) == ["first", "second", "train"]
    outputs = found["train"].outputs
    assert outputs == {name: (a.digest, a.digest) for name, a in trained.outputs.items()}
    assert sorted(path for path in Path(rig.store.root).rglob("*") if path.is_file()) == before


def test_an_input_that_has_changed_is_named_and_the_stored_output_is_used(
    rig: CacheRig, trained: Manifest, tmp_path: Path
) -> None:
    (tmp_path / "other").write_text("5 5")
    rig.store.put_inbox(tmp_path / "other", "inbox/first.txt")
    (Path(rig.store.root) / "inbox/second.txt").unlink()
    found = rebuilt(rig, trained, tmp_path / "work")
    assert {task: step.verdict for task, step in found.items()} == {
        "first": "stored", "second": "stored", "train": "equal",
    }  # fmt: skip
    assert found["first"].why.startswith("store://inbox/first.txt has changed: it has the digest ")
    assert "store://inbox/second.txt does not exist" in found["second"].why


def test_without_the_stored_output_nothing_after_it_can_be_rebuilt(
    rig: CacheRig, trained: Manifest, tmp_path: Path
) -> None:
    (Path(rig.store.root) / "inbox/second.txt").unlink()
    line = next(line for line in trained.lineage if line.input == "numbers.second")
    (artifact,) = [a for a in rig.manifest_of(line.manifest).outputs.values() if a.digest == line.digest]
    Path(rig.store.url(artifact).removeprefix("file://")).unlink()
    found = rebuilt(rig, trained, tmp_path / "work")
    assert {task: step.verdict for task, step in found.items()} == {
        "first": "equal", "second": "gone", "train": "stored",
    }  # fmt: skip
    assert found["train"].why == "input 'numbers.second' is gone"


def test_a_step_that_differs_is_named_and_the_next_is_judged_by_itself(
    rig: CacheRig, trained: Manifest, tmp_path: Path
) -> None:
    first = rig.manifest_of(next(line.manifest for line in trained.lineage if line.input == "numbers.first"))
    rig.store.write_manifest(first.model_copy(update={"params": {"times": 4}}))
    found = rebuilt(rig, trained, tmp_path / "work")
    assert {task: step.verdict for task, step in found.items()} == {
        "first": "differs", "second": "equal", "train": "equal",
    }  # fmt: skip
    assert found["first"].why == "result"


def test_a_step_that_asked_an_llm_is_not_run_again(rig: CacheRig, trained: Manifest, tmp_path: Path) -> None:
    assert trained.uses is not None
    asked = trained.uses.model_copy(update={"services": {"llm.light.url": "http://llm", "llm.light.model": "small"}})
    rig.store.write_manifest(trained.model_copy(update={"uses": asked}))
    found = rebuilt(rig, trained, tmp_path / "work")["train"]
    assert (found.verdict, found.why) == ("stored", "it asked llm, and would be answered anew")


def test_what_has_changed_on_the_machine_is_told_with_the_steps(
    rig: CacheRig, trained: Manifest, tmp_path: Path
) -> None:
    assert trained.uses is not None
    assert trained.question is not None
    assert trained.environment is not None
    changed = {
        "uses": trained.uses.model_copy(update={"libraries": {**trained.uses.libraries, "pydantic": "1.0"}}),
        "question": trained.question.model_copy(update={"python": "cpython 3.9"}),
        "environment": trained.environment.model_copy(update={"processor": "Another"}),
    }
    rig.store.write_manifest(trained.model_copy(update=changed))
    (tmp_path / "work").mkdir()
    lines = Rebuild(rig.store, trained.key, tmp_path / "work").changes()
    assert [line.split(" → ")[0] for line in lines] == ["Python: cpython 3.9", "pydantic 1.0", "the processor: Another"]
    assert all(line.endswith("(train)") for line in lines)


def test_the_record_has_the_files_the_libraries_and_the_commit(
    rig: CacheRig, trained: Manifest, tmp_path: Path
) -> None:
    environment = trained.environment
    assert environment is not None
    assert (environment.commit, environment.dirty) == ("", False)
    assert environment.resources.cpu == "1"
    assert environment.code is not None
    with tarfile.open(rig.store.fetch(environment.code, tmp_path)) as archive:
        names = archive.getnames()
        assert {"bundle/training.py", "bundle/extra.txt", "requirements.txt"} <= set(names)
        assert [name for name in names if name.startswith("inputs/")] == [
            f"inputs/{next(line.digest for line in trained.lineage if line.input == 'options')}.yaml"
        ]
        lock = archive.extractfile("requirements.txt")
        assert lock is not None
        assert b"polars==" in lock.read()


def test_the_commit_of_the_bundle_is_recorded_and_that_it_has_changed(rig: CacheRig) -> None:
    def git(*arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@example.com")
        command = ["git", *who, "-C", str(rig.bundle), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    rig.write({"step.py": "def f(*, x: int = 1) -> dict[str, int]:\n    return {'x': x}\n"})
    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "first")
    clean = rig.manifest(rig.run().result).environment
    rig.write({"step.py": "def f(*, x: int = 1) -> dict[str, int]:\n    return {'x': x + 1}\n"})
    dirty = rig.manifest(rig.run().result).environment
    assert clean is not None
    assert dirty is not None
    assert (clean.commit, clean.dirty) == (git("rev-parse", "HEAD"), False)
    assert (dirty.commit, dirty.dirty) == (clean.commit, True)


def test_gc_keeps_what_a_rebuild_of_a_registered_model_needs(rig: CacheRig, trained: Manifest, tmp_path: Path) -> None:
    registered = [trained.key, trained.outputs["model"].digest]
    collect(rig.store, registered=registered, keep_days=0, grace_seconds=0)
    found = rebuilt(rig, trained, tmp_path / "work")
    assert {step.verdict for step in found.values()} == {"equal"}
