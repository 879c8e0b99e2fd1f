"""The sentence in which a rebuild of a version ends."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kommuna.cli.rebuild import _sentence
from kommuna.runtime.rebuild import RebuiltStep, Verdict
from kommuna.store import Manifest

RECORDED, OTHER = "1" * 64, "2" * 64


def step(task: str, verdict: Verdict, *, rebuilt: str = RECORDED, why: str = "") -> RebuiltStep:
    manifest: dict[str, Any] = {"key": f"{len(task):064x}", "team": "support", "function": "m:f", "task_id": task}
    manifest |= {"outputs": {}, "version": "0", "started": datetime.now(UTC), "seconds": 1.0, "peak_memory_bytes": 1}
    return RebuiltStep(Manifest(**manifest), verdict, {"model": (RECORDED, rebuilt)}, why)


@pytest.mark.parametrize(
    ("steps", "changed", "is_equal", "sentence"),
    [
        (
            [step("read", "equal"), step("train", "equal")], True, True,
            "is equal: 2 steps were rebuilt from its sources",
        ),
        (
            [step("read", "stored", rebuilt="", why="gone"), step("train", "equal")], False, True,
            "is equal: 1 of 2 steps was rebuilt, the others' stored outputs were used: read",
        ),
        (
            [step("read", "differs", rebuilt=OTHER), step("train", "equal")], False, True,
            "is equal, given the recorded outputs of steps that differ: read",
        ),
        (
            [step("read", "differs", rebuilt=OTHER), step("train", "differs", rebuilt=OTHER)], True, False,
            "differs, first in the step read; see above what has changed since",
        ),
        (
            [step("read", "equal"), step("train", "differs", rebuilt=OTHER)], False, False,
            "differs, first in the step train, though nothing that is recorded has changed",
        ),
        (
            [step("read", "gone", rebuilt=""), step("train", "stored", rebuilt="", why="input 'dev' is gone")],
            False, False, "cannot be rebuilt: input 'dev' is gone",
        ),
    ],
)  # fmt: skip
def test_it_says_whether_the_model_is_the_registered_one(
    steps: list[RebuiltStep], changed: bool, is_equal: bool, sentence: str
) -> None:
    assert _sentence(steps, RECORDED, changed=changed) == (is_equal, sentence)
