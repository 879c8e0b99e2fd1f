"""Memory of a step's process: how it is allocated."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kommuna.runtime.limits import ALLOCATOR_VARIABLE, LEAN_ALLOCATOR
from kommuna.spec.step import StepResult
from kommuna.store import Store


def said(store: Store, result: StepResult, folder: Path) -> str:
    manifest = store.manifest(result.key)
    assert manifest is not None
    return str(json.loads(store.fetch(manifest.outputs["result"], folder).read_text())["settings"])


def test_a_steps_process_allocates_lean_whatever_its_parent_does(
    run: Callable[..., StepResult], store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ALLOCATOR_VARIABLE, "narenas:8")
    assert said(store, run("allocator"), tmp_path).endswith(f",narenas:8,{LEAN_ALLOCATOR}")  # the last wins


def told(settings: str) -> str:
    code = "import polars; polars.Series([1])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {ALLOCATOR_VARIABLE: settings}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stderr


def test_polars_allocator_reads_the_settings_and_knows_each() -> None:
    assert told(LEAN_ALLOCATOR) == ""
    assert "nonsense" in told("nonsense:1")
