"""Runs label models on the grid and on the public sets, on every core, and keeps each draw's scores.

A draw's scores are written down when they are known, under a digest of the models and of this benchmark: a run that was
interrupted goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import astuple, dataclass, field
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import structlog
from tests.benchmarks._label_model_scores import CROWD_KIT, LIBRARY, MAJORITY, OURS, Floats, Score, scores
from tests.benchmarks._paired import Difference
from tests.benchmarks._vote_grid import Point, draw
from tests.benchmarks._weak_data import Split
from tests.benchmarks._weak_sets import WeakSet, weak_sets

ROOT = Path(__file__).resolve().parent.parent.parent
NO_DEV, ALL_DEV = "0", "all"
_SET_DEV = (NO_DEV, "20", "100", ALL_DEV)
# Snorkel's own 500 epochs take half a second of 100 rules x tags, three of 400, and minutes of thousands.
_LIBRARY_CELLS_GRID, _LIBRARY_CELLS_SETS = 100, 500
_MOST_DRAWS_SETS = 10

Found = list[tuple[str, str, dict[str, Score]]]  # place, dev rows, the score of each model


@dataclass
class Scores:
    """Scores by draw.

    Attributes:
        group: of each place (a point of the grid, or a set) what its figures are gathered under.
        drawn: of each place, dev rows and model: draws x 2, accuracy and macro F1.
    """

    group: dict[str, str]
    drawn: dict[tuple[str, str, str], list[Score]] = field(default_factory=dict)

    def add(self, found: Found) -> None:
        for place, dev, by_model in found:
            for model, score in by_model.items():
                self.drawn.setdefault((place, dev, model), []).append(score)

    @property
    def dev(self) -> list[str]:
        """Returns the numbers of dev rows in increasing order."""
        return sorted({dev for _, dev, _ in self.drawn}, key=lambda dev: float("inf") if dev == ALL_DEV else int(dev))

    @property
    def models(self) -> list[str]:
        there = {model for _, _, model in self.drawn}
        return [model for model in (*OURS, CROWD_KIT, *LIBRARY) if model in there]

    def accuracy(self, place: str, dev: str, model: str) -> Floats:
        return np.array([score.accuracy for score in self.drawn[place, dev, model]])

    def macro_f1(self, place: str, dev: str, model: str) -> Floats:
        return np.array([score.macro_f1 for score in self.drawn[place, dev, model]])

    def less(self, group: str, dev: str, model: str, than: str, than_dev: str) -> dict[str, Floats]:
        """Returns the accuracy of a model minus that of another on the same draws, by place of a group."""
        places = [p for p, g in self.group.items() if g == group and (p, dev, model) in self.drawn]
        return {p: _less(self.accuracy(p, dev, model), self.accuracy(p, than_dev, than)) for p in places}

    def lines(self) -> list[dict[str, Any]]:
        """Returns all scores, one line per place, number of dev rows and model."""
        return [self._line(*at) for at in self.drawn]

    def _line(self, place: str, dev: str, model: str) -> dict[str, Any]:
        accuracy = self.accuracy(place, dev, model)
        line: dict[str, Any] = {"at": place, "dev_rows": dev, "model": model, "draws": len(accuracy)}
        line |= {"accuracy": _number(accuracy.mean()), "macro_f1": _number(self.macro_f1(place, dev, model).mean())}
        for name, than, than_dev in (("less_majority", MAJORITY, dev), ("less_no_dev", model, NO_DEV)):
            by = Difference.of(_less(accuracy, self.accuracy(place, than_dev, than)))
            line[name] = [_number(by.mean), _number(by.low), _number(by.high)]
        return line


def run_grid(points: Sequence[Point], *, seeds: int, dev_rows: Sequence[int], library_draws: int) -> Scores:
    """Runs every point with every seed.

    Args:
        library_draws: the seeds with which Snorkel's own model is run beside the others.
    """
    tasks = [
        (point, seed, tuple(dev_rows), seed < library_draws) for point in points for seed in range(point.seeds(seeds))
    ]
    tasks.sort(key=lambda task: -task[0].rules * task[0].tags)  # the longest first, so that no core idles at the end
    kept = Scores({str(point): point.side for point in points})
    _each(_on_point, tasks, kept, "points of the grid drawn")
    return kept


def run_sets(*, seeds: int, library_draws: int) -> Scores:
    """Runs every data set, with dev rows drawn with some seeds."""
    draws = min(seeds, _MOST_DRAWS_SETS)
    tasks = [(name, seed, seed < library_draws) for name in _sets() for seed in range(draws)]
    kept = Scores({name: name for name in _sets()})
    _each(_on_set, tasks, kept, "draws of dev rows of the sets")
    return kept


def _on_point(point: Point, seed: int, dev_rows: tuple[int, ...], library: bool) -> Found:
    drawn = draw(point, seed=seed)
    models = _models(point.rules * point.tags <= _LIBRARY_CELLS_GRID and library)
    rows = Split(drawn.votes, drawn.truth)
    return [(str(point), str(d), scores(drawn.votes, point.tags, rows, drawn.dev(d), models)) for d in dev_rows]


def _on_set(name: str, seed: int, library: bool) -> Found:
    """Runs tasks that do not depend on the seed (no dev rows, or all) only with the first one."""
    weak = _sets()[name]
    models = _models(weak.votes.shape[1] * weak.tags <= _LIBRARY_CELLS_SETS and library)
    found = []
    for dev in _SET_DEV:
        once = dev == NO_DEV or (dev == ALL_DEV and weak.most_dev == len(weak.labeled))
        if seed and once:
            continue
        rows = weak.dev(weak.most_dev if dev == ALL_DEV else int(dev), seed=seed)
        found.append((name, dev, scores(weak.votes, weak.tags, weak.test, rows, models)))
    return found


def _models(library: bool) -> tuple[str, ...]:
    return (*OURS, CROWD_KIT, *(LIBRARY if library else ()))


@cache
def _sets() -> dict[str, WeakSet]:
    return {weak.name: weak for weak in weak_sets()}


def _each(run: Callable[..., Found], tasks: Sequence[tuple[Any, ...]], kept: Scores, what: str) -> None:
    """Runs tasks on all cores with one thread each; returns results in the order of the tasks."""
    os.environ |= {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "POLARS_MAX_THREADS": "1",
    }  # read by the children
    done = _Done.open()
    missing = [task for task in tasks if task not in done]
    with ProcessPoolExecutor(mp_context=get_context("spawn"), initializer=_quiet) as pool:
        running = {pool.submit(run, *task): task for task in missing}
        for finished, future in enumerate(as_completed(running), start=1):
            done.add(running[future], future.result())
            if finished % max(1, len(tasks) // 20) == 0:
                print(f"{finished} of {len(missing)} {what}", file=sys.stderr, flush=True)
    for task in tasks:
        kept.add(done[task])


class _Done:
    """The cached scores of tasks that ran on the same code, one line of a file each."""

    def __init__(self, file: Path) -> None:
        self._file = file
        lines = file.read_text().splitlines() if file.exists() else []
        self._found: dict[str, Any] = {}
        for line in lines:
            with suppress(json.JSONDecodeError):  # the last line of a run that was killed
                self._found |= json.loads(line)

    @classmethod
    def open(cls) -> _Done:
        digest = hashlib.sha256()
        for source in sorted(
            [*(ROOT / "src/kommuna/steps/labeling").rglob("*.py"), *Path(__file__).parent.glob("_*.py")]
        ):
            digest.update(source.read_bytes())
        return cls(ROOT / "build" / "label_models" / f"{digest.hexdigest()[:16]}.jsonl")

    def __contains__(self, task: tuple[Any, ...]) -> bool:
        return repr(task) in self._found

    def __getitem__(self, task: tuple[Any, ...]) -> Found:
        return [(at, dev, {model: Score(*s) for model, s in by.items()}) for at, dev, by in self._found[repr(task)]]

    def add(self, task: tuple[Any, ...], found: Found) -> None:
        self._found[repr(task)] = [(at, dev, {m: astuple(s) for m, s in by.items()}) for at, dev, by in found]
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a") as lines:
            lines.write(json.dumps({repr(task): self._found[repr(task)]}) + "\n")


def _quiet() -> None:
    """Hides warnings of models about synthetic votes."""
    import warnings

    warnings.simplefilter("ignore")
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr), wrapper_class=_ERRORS)


_ERRORS = structlog.make_filtering_bound_logger(40)


def _less(left: Floats, right: Floats) -> Floats:
    """Returns differences on common draws; results that do not depend on the draw were computed once."""
    draws = max(len(left), len(right)) if 1 in (len(left), len(right)) else min(len(left), len(right))
    return np.asarray(np.resize(left, draws) - np.resize(right, draws))


def _number(value: Any) -> float | None:
    return round(float(value), 4) if np.isfinite(value) else None
