"""Label models: seconds and memory compared with Snorkel's."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks._label_models_apart import apart

ROOT = Path(__file__).resolve().parent.parent.parent
LARGE = {"n": 500_000, "m": 200, "k": 50}
MIDDLE = {"n": 50_000, "m": 100, "k": 50}


def results() -> Iterator[dict[str, Any]]:
    """Yields name, ours, peer, ratio; in seconds, and peak MiB of each process; shares of right answers beside it."""
    yield from _large()
    yield from _beside_the_library()
    yield from _against_size()


def _large() -> Iterator[dict[str, Any]]:
    for name, one_class, coverage in (("rules vote for any tag", False, 0.05), ("each for one tag", True, 0.1)):
        arguments = {**LARGE, "coverage": coverage, "one_class": one_class, "model": "kommuna"}
        with tempfile.TemporaryDirectory(prefix="kommuna-bench-") as folder:
            apart("write", **arguments, folder=folder)
            ours = apart("step", **arguments, folder=folder)
        yield {
            "name": f"label_messages, 500,000 x 200 x 50, {name}: seconds of 5, file to file, 1,000 dev rows",
            "ours": round(ours["seconds"], 2),
            "cpu_seconds": round(ours["cpu_seconds"], 2),
            "peer": 5,
            "ratio": round(ours["seconds"] / 5, 3),
            "peak_mib": ours["peak_mib"],
            "peak_ratio": round(ours["peak_mib"] / 1024, 3),
            "accuracy": round(ours["accuracy"], 4),
        }
    arguments = {**LARGE, "coverage": 0.05, "one_class": False, "model": "snorkel"}
    yield {"name": "the library on the same, given 16 GiB", "peer": apart("library_within", **arguments)["said"]}
    yield {"name": "our wrapper of it", "ours": apart("refused", **arguments)["said"]}


def _beside_the_library() -> Iterator[dict[str, Any]]:
    for name, one_class, coverage in (("rules vote for any tag", False, 0.1), ("each for one tag", True, 0.4)):
        arguments = {**MIDDLE, "coverage": coverage, "one_class": one_class}
        peer = apart("library", **arguments, model="snorkel")
        ours, fast = (apart("ours", **arguments, model=model) for model in ("kommuna", "snorkel_fast"))
        for model, run in (("kommuna", ours), ("snorkel_fast", fast)):
            yield {
                "name": f"{model} beside the library's 500 epochs (20 run, the rest scaled), 50,000 x 100 x 50, {name}",
                "ours": round(run["seconds_dev"], 3),
                "peer": round(peer["seconds"], 1),
                "ratio": round(peer["seconds"] / run["seconds_dev"], 1),
                "cpu_ratio": round(peer["cpu_seconds"] / run["cpu_seconds_dev"], 1),  # on a busy machine the truer one
                "peak_mib": run["peak_mib"],
                "peer_peak_mib": peer["peak_mib"],
            }
        yield {
            "name": f"snorkel_fast less the library after 20 epochs, the largest difference, {name}",
            "ours": peer["largest_difference"],
            "peer": 1e-6,
            "ratio": round(peer["largest_difference"] / 1e-6, 3),
        }
        for with_dev, words in (("accuracy", "no dev rows"), ("accuracy_dev", "1,000 dev rows")):
            yield {
                "name": f"hidden truth: kommuna beside the library's model, {name}, {words}",
                "ours": round(ours[with_dev], 4),
                "peer": round(fast[with_dev], 4),
                "ratio": round(ours[with_dev] / fast[with_dev], 4),
            }


def _against_size() -> Iterator[dict[str, Any]]:
    """Plots the CPU seconds of each model by n, m and k; on a busy machine wall time is distorted."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    middle = {"n": 10_000, "m": 30, "k": 10}
    sizes = {"n": (2_500, 20_000, 160_000), "m": (10, 45, 180), "k": (3, 15, 60)}
    figure, axes = plt.subplots(1, 3, figsize=(12, 4), sharey=True)
    for axis, (what, values) in zip(axes, sizes.items(), strict=True):
        seconds: dict[str, list[float]] = {"kommuna": [], "snorkel_fast": [], "snorkel (scaled from 20 epochs)": []}
        for value in values:
            arguments = {**middle, what: value, "coverage": 0.2, "one_class": False}
            for model in ("kommuna", "snorkel_fast"):
                seconds[model].append(apart("ours", **arguments, model=model)["cpu_seconds_dev"])
            seconds["snorkel (scaled from 20 epochs)"].append(
                apart("library", **arguments, model="snorkel")["cpu_seconds"]
            )
        for model, line in seconds.items():
            axis.loglog(values, line, marker="o", label=model)
        axis.set_xlabel({"n": "rows", "m": "rules", "k": "tags"}[what])
        axis.set_xticks(values, [f"{value:,}" for value in values], minor=False)
        axis.set_xticks([], minor=True)
        axis.grid(visible=True, alpha=0.3)
        yield {
            "name": f"processor seconds by {what} of {', '.join(map(str, values))}",
            "ours": [round(s, 3) for s in seconds["kommuna"]],
            "snorkel_fast": [round(s, 3) for s in seconds["snorkel_fast"]],
            "peer": [round(s, 2) for s in seconds["snorkel (scaled from 20 epochs)"]],
        }
    axes[0].set_ylabel("processor seconds (500 epochs)")
    axes[0].legend()
    place = ROOT / "build" / "label_model_speed.png"
    place.parent.mkdir(exist_ok=True)
    figure.tight_layout()
    figure.savefig(place, dpi=120)
    yield {"name": "plot", "ours": str(place.relative_to(ROOT))}
