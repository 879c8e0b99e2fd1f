"""Trained models and labels do not depend on the number of threads."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from tests.rigs.thread_digests import CASES

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def digests() -> list[dict[str, str]]:
    """The digests of all cases with 1, 2 and 4 threads."""
    found = []
    for threads in ("1", "2", "4"):
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS")
        done = subprocess.run(
            [sys.executable, "-m", "tests.rigs.thread_digests"],
            check=True,
            capture_output=True,
            text=True,
            env=os.environ | dict.fromkeys(names, threads),
        )
        found.append(dict(json.loads(done.stdout.splitlines()[-1])))
    return found


@pytest.mark.parametrize("case", CASES)
def test_the_result_is_the_same_with_one_two_and_four_threads(case: str, digests: list[dict[str, str]]) -> None:
    assert len({found[case] for found in digests}) == 1
