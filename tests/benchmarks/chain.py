"""The chain at a month's size: each step of ours, its floor, and what a user without Kommuna has, each in a process.

500,000 generated messages and transactions, and 5,000,000 events. The floor is the shortest script of the same
libraries that gives the same output; it writes Parquet as a step does. The user's way is pandas, `re`, Snorkel's applier
and LabelModel, and scikit-learn; where they took a sample, `today scaled` says by how much it was multiplied. Seconds and processor
seconds are of the work alone, without imports; peaks are of the whole process. `_chain_steps` has the scripts.

`python -m tests.benchmarks.chain NAME…` runs only the steps named; figures are of an idle machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks._chain_steps import STEPS, prepare
from tests.benchmarks._memory import peak_mib

from kommuna.runtime.limits import ALLOCATOR_VARIABLE, LEAN_ALLOCATOR

ROOT = Path(__file__).resolve().parent.parent.parent
ROWS = 500_000
_SIDES = ("ours", "floor", "today")


def results(names: frozenset[str] = frozenset(), *, rows: int = ROWS) -> Iterator[dict[str, Any]]:
    """Yields each step's figures on all sides, then those of the whole chain of messages.

    Args:
        names: of the steps to measure; all if empty. Those before them run as ours alone.
        rows: of messages, and of transactions.
    """
    with tempfile.TemporaryDirectory(prefix="kommuna-bench-") as name:
        folder = Path(name)
        _apart("prepare", str(rows), folder)
        totals = dict.fromkeys(_SIDES, 0.0)
        left = set(names or STEPS)
        for step in STEPS.values():
            if not left:
                return
            sides = _SIDES if not names or step.name in names else ("ours",)
            found = {side: _apart(step.name, side, folder) for side in sides if getattr(step, side) is not None}
            scaled = rows / step.sample if step.sample else 1.0
            if "today" in found:
                found["today"] |= {name: found["today"][name] * scaled for name in ("seconds", "cpu_seconds")}
            if step.of_messages:
                for side in _SIDES:
                    totals[side] += found.get(side, found["ours"])["seconds"]
            left.discard(step.name)
            if len(sides) > 1:
                yield _line(f"{step.name}, {rows:,} rows", found) | ({"today scaled": scaled} if step.sample else {})
        if not names:
            yield {
                "name": f"the whole chain, {rows:,} messages, each step alone; without the floor or peer of a step: ours",
                **{side: round(seconds, 1) for side, seconds in totals.items()},
                "ratio": round(totals["ours"] / totals["today"], 3),
                "over_floor": round(totals["ours"] / totals["floor"], 2),
            }


def _line(name: str, found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    line: dict[str, Any] = {"name": name}
    for side, figures in found.items():
        line |= {f"{side} {name}": round(value, 2) for name, value in figures.items() if name != "digest"}
    for side in ("floor", "today"):
        if side in found:
            line[f"cpu over {side}"] = round(found["ours"]["cpu_seconds"] / found[side]["cpu_seconds"], 3)
            if "digest" in found["ours"] and "digest" in found[side]:
                line[f"same as {side}"] = found["ours"]["digest"] == found[side]["digest"]
    return line


def _apart(name: str, side: str, folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.chain", "--one", name, side, str(folder)],
        cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
        env=os.environ | ({ALLOCATOR_VARIABLE: LEAN_ALLOCATOR} if side == "ours" else {}),
    )  # fmt: skip
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _one(name: str, side: str, folder: Path) -> dict[str, Any]:
    if name == "prepare":
        prepare(folder, int(side))
        return {}
    work = getattr(STEPS[name], side)(folder)
    began = time.perf_counter(), time.process_time()
    work()
    figures = {"seconds": time.perf_counter() - began[0], "cpu_seconds": time.process_time() - began[1]}
    figures["peak_mib"] = peak_mib()
    digest = STEPS[name].digest(folder, side)
    return figures if digest is None else {**figures, "digest": digest}


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(_one(sys.argv[2], sys.argv[3], Path(sys.argv[4]))))
    else:
        for result in results(frozenset(sys.argv[1:])):
            print(json.dumps(result), flush=True)
