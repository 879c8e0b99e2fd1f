"""Every label model compared with majority vote: on a grid of synthetic votes, and on public data.

`make bench label_models` takes the whole grid, 20 draws a point: some 90 minutes of one core, on all cores.
`make bench label_models QUICK=1` takes a few points, three draws each, without Snorkel's own model: a minute of one
core; three draws leave wide intervals. SEEDS=N sets the number of draws.

Prints tables, leaves every figure in `build/label_models.json`, and says whether the default model meets its bar: at
no point of the grid more than .02 below majority vote, with dev rows nowhere below itself without them, and first on
the mean.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks._label_model_bars import bars, grid_lines, grid_table, set_lines, set_table
from tests.benchmarks._label_model_runs import Scores, run_grid, run_sets
from tests.benchmarks._vote_grid import DEV_ROWS, quick_grid, whole_grid

PLACE = Path(__file__).resolve().parent.parent.parent / "build" / "label_models.json"


def results() -> Iterator[dict[str, Any]]:
    """Yields name, ours, peer, by, …: accuracy of the default model and of majority vote; then the bars."""
    quick = bool(os.environ.get("QUICK"))
    seeds = int(os.environ.get("SEEDS", "3" if quick else "20"))
    points, dev_rows, library_draws = (quick_grid(), (0, 20, 100), 0) if quick else (whole_grid(), DEV_ROWS, 3)
    start = time.perf_counter()
    grid = run_grid(points, seeds=seeds, dev_rows=dev_rows, library_draws=library_draws)
    print(grid_table(grid), flush=True)
    yield from grid_lines(grid)
    sets = run_sets(seeds=seeds, library_draws=library_draws)
    print(set_table(sets), flush=True)
    yield from set_lines(sets)
    said = bars(grid)
    _keep(grid, sets, {"seeds": seeds, "seconds": round(time.perf_counter() - start, 1), "bars": said})
    yield from said


def _keep(grid: Scores, sets: Scores, told: dict[str, Any]) -> None:
    PLACE.parent.mkdir(exist_ok=True)
    PLACE.write_text(json.dumps({**told, "grid": grid.lines(), "sets": sets.lines()}, indent=1))
