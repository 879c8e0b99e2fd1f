"""All cases without a server, by step; `python -m tests.recorded.cases STEP FOLDER` runs those of a step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.recorded import etl, labeling, training
from tests.recorded.results import plain

CASES: dict[str, list[Callable[[Path], Any]]] = etl.CASES | labeling.CASES | training.CASES
# L-BFGS ends elsewhere, by up to 2 %, with the kernels that OpenBLAS has for another processor: these any x86 has.
_SAME_EVERYWHERE = {"OPENBLAS_CORETYPE": "Nehalem"}


def results(step: str, folder: Path) -> dict[str, Any]:
    """Returns the result of each case, each run in its own folder."""
    found = {}
    for case in CASES[step]:
        own = folder / case.__name__
        own.mkdir()
        found[case.__name__] = plain(case(own))
    return found


def results_of_a_process(step: str, folder: Path) -> dict[str, Any]:
    """Returns the same from a separate process, whose floating-point sums do not depend on the processor."""
    command = [sys.executable, "-m", "tests.recorded.cases", step, str(folder)]
    root = Path(__file__).resolve().parent.parent.parent
    done = subprocess.run(
        command, cwd=root, env=os.environ | _SAME_EVERYWHERE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return found


def main() -> None:
    step, folder = sys.argv[1], Path(sys.argv[2])
    (folder / "results.json").write_text(json.dumps(results(step, folder)), encoding="utf-8")


if __name__ == "__main__":
    main()
