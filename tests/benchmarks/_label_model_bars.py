"""Tables and lines of `label_models`, and whether the default model meets its bar."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from tests.benchmarks._label_model_runs import ALL_DEV, NO_DEV, Scores
from tests.benchmarks._label_model_scores import DEFAULT, MAJORITY
from tests.benchmarks._paired import Comparison

TOLERANCE = 0.02


def grid_table(grid: Scores) -> str:
    """Returns one line per side, number of dev rows and model."""
    head = (
        f"{'':34}accuracy less majority vote's on the same draws{'':22}less its own without dev rows\n"
        f"{'rules, dev rows, model':34}{'mean':>6}{'F1':>7}{'points':>8}{'-.02':>6}{'surely':>8}  {'worst':26}"
        f"{'mean':>6}{'below':>7}{'chance':>8}  worst"
    )
    lines = ["", "The grid: means over points of means over draws; worst point with its paired 95 % interval.", head]
    for group in dict.fromkeys(grid.group.values()):
        for dev in grid.dev:
            lines += [f"{group}, {dev} dev rows", *(_grid_line(grid, group, dev, model) for model in grid.models)]
    lines += [
        "F1: macro F1 less majority vote's. -.02: points whose mean is more than .02 below; surely: whose interval is.",
        "below: points whose interval lies below zero; chance: by intervals that hold at all points at once.",
    ]
    return "\n".join(lines)


def _grid_line(grid: Scores, group: str, dev: str, model: str) -> str:
    beside = Comparison.of(grid.less(group, dev, model, MAJORITY, dev), tolerance=TOLERANCE)
    if beside is None:
        return f"    {model:30}no answer"
    line = f"    {model:30}{beside.mean:+6.3f}{_f1_gain(grid, group, dev, model):+7.3f}{beside.points:8}"
    line += f"{beside.below:6}{beside.surely:8}  {beside.worst!s:26}"
    own = Comparison.of(grid.less(group, dev, model, model, NO_DEV), tolerance=0.0)
    if dev != NO_DEV and own is not None:
        line += f"{own.mean:+6.3f}{own.surely:7}{own.beyond_chance:8}  {own.worst}"
    return line.rstrip() + (f"  no answer at {beside.failed}" if beside.failed else "")


def _f1_gain(grid: Scores, group: str, dev: str, model: str) -> float:
    gains = []
    for place, side in grid.group.items():
        if side == group and (place, dev, model) in grid.drawn:
            gains.append(grid.macro_f1(place, dev, model).mean() - grid.macro_f1(place, dev, MAJORITY).mean())
    return float(np.nanmean(gains))


def grid_lines(grid: Scores) -> Iterator[dict[str, Any]]:
    """Compares the default's mean accuracy with majority vote's, by side and dev rows."""
    for group in dict.fromkeys(grid.group.values()):
        places = [place for place, side in grid.group.items() if side == group]
        for dev in grid.dev:
            by = {m: Comparison.of(grid.less(group, dev, m, MAJORITY, dev), tolerance=TOLERANCE) for m in grid.models}
            ours = by[DEFAULT]
            assert ours is not None
            yield {
                "name": f"grid, {group} rules, {dev} dev rows: accuracy, mean of {len(places)} points",
                "ours": _mean(grid, places, dev, DEFAULT),
                "peer": _mean(grid, places, dev, MAJORITY),
                "by": round(ours.mean, 4),
                "worst": str(ours.worst),
                "worst_at": ours.worst_at,
                "points_below": ours.below,
                "by_of": {m: round(c.mean, 4) for m, c in by.items() if c is not None},
            }


def set_table(sets: Scores) -> str:
    """Returns one line per set and number of dev rows, one column per model."""
    lines = ["", "The sets: accuracy on covered test rows / macro F1; means over draws of dev rows."]
    lines.append(f"{'set':16}{'dev':>5}  " + "".join(f"{model:>25}" for model in sets.models))
    for name in sets.group:
        for dev in sets.dev:
            cells = [_cell(sets, name, dev, model) for model in sets.models]
            lines.append(f"{name:16}{dev:>5}  " + "".join(f"{cell:>25}" for cell in cells))
    return "\n".join(lines)


def _cell(sets: Scores, name: str, dev: str, model: str) -> str:
    if (name, dev, model) not in sets.drawn:
        return "-"
    return f"{sets.accuracy(name, dev, model).mean():.3f} / {sets.macro_f1(name, dev, model).mean():.3f}"


def set_lines(sets: Scores) -> Iterator[dict[str, Any]]:
    """Compares the default's accuracy with majority vote's and with its own without dev rows, by set and dev rows."""
    for name in sets.group:
        for dev in sets.dev:
            own = sets.less(name, dev, DEFAULT, DEFAULT, NO_DEV)[name]
            yield {
                "name": f"{name}, {'all' if dev == ALL_DEV else dev} dev rows: accuracy on covered test rows",
                "ours": _mean(sets, [name], dev, DEFAULT),
                "peer": _mean(sets, [name], dev, MAJORITY),
                "by": round(float(sets.less(name, dev, DEFAULT, MAJORITY, dev)[name].mean()), 4),
                "by_no_dev": round(float(own.mean()), 4),
                "peers_here": {m: _mean(sets, [name], dev, m) for m in sets.models if (name, dev, m) in sets.drawn},
            }


def _mean(scores: Scores, places: list[str], dev: str, model: str) -> float | None:
    found = [scores.accuracy(place, dev, model).mean() for place in places]
    return round(float(np.nanmean(found)), 4) if np.isfinite(found).any() else None


def bars(grid: Scores) -> list[dict[str, Any]]:
    """Whether the default model meets its bar, and where it does not."""
    beside, own = {}, {}
    for group in dict.fromkeys(grid.group.values()):
        for dev in grid.dev:
            less = grid.less(group, dev, DEFAULT, MAJORITY, dev)
            beside |= {f"{place}, {dev} dev rows": drawn for place, drawn in less.items()}
            if dev != NO_DEV:
                less = grid.less(group, dev, DEFAULT, DEFAULT, NO_DEV)
                own |= {f"{place}, {dev} dev rows": drawn for place, drawn in less.items()}
    near, level = (Comparison.of(own, tolerance=tolerance) for tolerance in (TOLERANCE, 0.0))
    return [
        _bar("at no point of the grid more than .02 below majority vote", Comparison.of(beside, tolerance=TOLERANCE)),
        _bar("with dev rows at no point more than .02 below itself without them", near),
        _bar("with dev rows nowhere below itself without them, beyond chance", level, by_interval=True),
        _first(grid),
    ]


def _bar(name: str, found: Comparison | None, *, by_interval: bool = False) -> dict[str, Any]:
    """A bar: of the points' means, or of intervals that hold at all points at once."""
    if found is None:
        return {"name": f"bar: {DEFAULT} {name}", "met": False}
    short = found.beyond_chance if by_interval else found.below
    return {
        "name": f"bar: {DEFAULT} {name}",
        "met": short == 0 and found.failed == 0,
        "points": found.points,
        "points_short": short,
        "points_surely_short": found.surely,  # by their own interval; of equal models one in forty is
        "no_answer": found.failed,
        "worst": str(found.worst),
        "worst_at": found.worst_at,
    }


def _first(grid: Scores) -> dict[str, Any]:
    """Returns every model's mean accuracy minus the default's, on the draws where it gave an answer."""
    gains = {model: round(_gain(grid, model), 4) for model in grid.models}
    best = max(gains, key=lambda model: gains[model])
    return {
        "name": f"bar: {DEFAULT} first on the mean",
        "met": gains[best] <= 0,
        "first": best if gains[best] > 0 else DEFAULT,
        "less_the_default": gains,
    }


def _gain(grid: Scores, model: str) -> float:
    less = [
        drawn.mean()
        for group in dict.fromkeys(grid.group.values())
        for dev in grid.dev
        for drawn in grid.less(group, dev, model, DEFAULT, dev).values()
    ]
    return float(np.nanmean(less))
