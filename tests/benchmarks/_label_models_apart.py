"""One measured run of a label model on synthetic votes, in its own process: `python -m … '{"what": …}'`.

Rules have known accuracies, .3 to .9, and err independently given the row's class.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from tests.benchmarks._memory import peak_mib
from tests.rigs.vote_patterns import patterns

from kommuna.spec.rules import RuleSet
from kommuna.steps.labeling.models.base import DevRows
from kommuna.steps.labeling.models.registry import MODELS, Settings
from kommuna.steps.labeling.votes.patterns import Codes

DEV = 1000


def generated(n: int, m: int, k: int, *, coverage: float, one_class: bool, seed: int = 0) -> tuple[Codes, Any]:
    """n x m votes (column by column in memory) and n classes; with `one_class` rule j fires for class j mod k alone."""
    random = np.random.default_rng(seed)
    truth = random.choice(k, n, p=random.dirichlet(np.full(k, 5.0))).astype(np.int16)
    accuracy = random.uniform(0.3, 0.9, m)
    votes = np.empty((n, m), dtype=np.int16, order="F")
    for j in range(m):
        chance = random.random(n, dtype=np.float32)
        if one_class:
            wrong = coverage * (1 - accuracy[j]) / accuracy[j] / (k - 1)
            votes[:, j] = np.where(chance < np.where(truth == j % k, coverage, wrong), j % k, -1)
        else:
            other = (truth + random.integers(1, k, n, dtype=np.int16)) % k
            cast = np.where(random.random(n, dtype=np.float32) < accuracy[j], truth, other)
            votes[:, j] = np.where(chance < coverage, cast, -1)
    return votes, truth


def step(n: int, m: int, k: int, coverage: float, one_class: bool, model: str, folder: str) -> dict[str, Any]:
    """Runs the whole step, from votes in a file to labels in a file."""
    import polars as pl

    from kommuna.steps.labeling.label import label_messages

    place = Path(folder)
    rules = RuleSet.model_validate_json((place / "rules.json").read_text())
    votes = pl.scan_parquet(place / "votes.parquet")
    dev = pl.scan_parquet(place / "dev.parquet")
    start, cpu = time.perf_counter(), time.process_time()
    done = label_messages(votes, rules, votes.head(DEV), dev, model=model)  # type: ignore[arg-type]
    done.labels.sink_parquet(place / "labels.parquet")
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    predicted = pl.read_parquet(place / "labels.parquet", columns=["tag"])["tag"].to_physical().cast(pl.Int16)
    truth = np.load(place / "truth.npy")
    right = float(np.mean(predicted.fill_null(-1).to_numpy() == truth))
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "accuracy": right}


def write(n: int, m: int, k: int, coverage: float, one_class: bool, model: str, folder: str) -> dict[str, Any]:
    """Writes votes, rules, dev rows and the hidden truth to a folder."""
    import polars as pl

    votes, truth = generated(n, m, k, coverage=coverage, one_class=one_class)
    tags = [f"t{i}" for i in range(k)]
    rules = [{"name": f"r{j}", "tag": tags[j % k], "sql": "false"} for j in range(m)]
    place = Path(folder)
    (place / "rules.json").write_text(RuleSet.read({"tags": tags, "rules": rules}, where="bench").model_dump_json())
    names = pl.Series(tags, dtype=pl.Enum(tags))
    columns = {
        f"r{j}": names.gather(pl.Series(votes[:, j], dtype=pl.Int32).set(pl.Series(votes[:, j] < 0), None))
        for j in range(m)
    }
    pl.DataFrame({"id": np.arange(n), **columns}).write_parquet(place / "votes.parquet", compression="lz4")
    pl.DataFrame({"id": np.arange(DEV), "tag": names.gather(truth[:DEV])}).write_parquet(place / "dev.parquet")
    np.save(place / "truth.npy", truth)
    return {}


def ours(n: int, m: int, k: int, coverage: float, one_class: bool, model: str, epochs: int = 500) -> dict[str, Any]:
    """Runs one of our models, from the votes' matrix to every row's class, without and with dev rows."""
    votes, truth = generated(n, m, k, coverage=coverage, one_class=one_class)
    found: dict[str, Any] = {}
    for name, dev in (("", None), ("_dev", DevRows(votes[:DEV], truth[:DEV].astype(np.int64)))):
        start, cpu = time.perf_counter(), time.process_time()
        distinct = patterns(votes, k)
        predicted = MODELS[model](Settings(epochs=epochs)).fit(distinct, dev).predict(distinct.votes).argmax(axis=1)  # type: ignore[index]
        found[f"seconds{name}"], found[f"cpu_seconds{name}"] = time.perf_counter() - start, time.process_time() - cpu
        found[f"accuracy{name}"] = float((predicted[distinct.row_pattern] == truth).mean())
    return found


def library(n: int, m: int, k: int, coverage: float, one_class: bool, model: str, epochs: int = 500) -> dict[str, Any]:
    """Runs Snorkel's model: seconds of 10 and 20 epochs, scaled to all, and the difference of `snorkel_fast` after 20."""
    from snorkel.labeling.model import LabelModel

    votes, _ = generated(n, m, k, coverage=coverage, one_class=one_class)
    matrix = votes.astype(np.int64)
    clocks = []
    for few in (10, 20):
        start = np.array([time.perf_counter(), time.process_time()])
        theirs = LabelModel(cardinality=k, verbose=False)
        theirs.fit(matrix, n_epochs=few, seed=0, progress_bar=False)
        clocks.append(np.array([time.perf_counter(), time.process_time()]) - start)
    start = np.array([time.perf_counter(), time.process_time()])
    sample = theirs.predict_proba(matrix[:2000])
    telling = (np.array([time.perf_counter(), time.process_time()]) - start) * n / min(n, 2000)
    fast = MODELS["snorkel_fast"](Settings(epochs=20)).fit(patterns(votes, k)).predict(votes[:2000])
    an_epoch = np.maximum(clocks[1] - clocks[0], 0) / 10
    seconds, cpu_seconds = clocks[1] + an_epoch * (epochs - 20) + telling
    return {
        "seconds": float(seconds),
        "cpu_seconds": float(cpu_seconds),
        "largest_difference": float(np.nanmax(np.abs(sample - fast))),
    }


def library_within(
    n: int, m: int, k: int, coverage: float, one_class: bool, model: str, gib: int = 16
) -> dict[str, Any]:
    """Runs Snorkel's model with limited memory; returns its message."""
    from snorkel.labeling.model import LabelModel

    votes, _ = generated(n, m, k, coverage=coverage, one_class=one_class)
    resource.setrlimit(resource.RLIMIT_AS, (gib * 2**30, gib * 2**30))
    try:
        LabelModel(cardinality=k, verbose=False).fit(votes, n_epochs=1, progress_bar=False)
    except MemoryError as error:
        return {"said": f"MemoryError: {error}"}
    return {"said": "it ran"}


def refused(n: int, m: int, k: int, coverage: float, one_class: bool, model: str) -> dict[str, Any]:
    """Returns the message of our wrapper of the library before it starts."""
    from kommuna.errors import LimitExceeded

    votes, _ = generated(n, m, k, coverage=coverage, one_class=one_class)
    try:
        MODELS["snorkel"](Settings()).fit(patterns(votes, k))
    except LimitExceeded as error:
        return {"said": error.what}
    return {"said": "it ran"}


RUNS = {run.__name__: run for run in (step, write, ours, library, library_within, refused)}


def apart(run: str, **arguments: Any) -> dict[str, Any]:
    """Runs in a separate process; returns the result with its peak memory in MiB."""
    done = subprocess.run(
        [sys.executable, "-m", __name__, run, json.dumps(arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{run} {arguments}: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    measured = RUNS[sys.argv[1]](**json.loads(sys.argv[2]))  # type: ignore[operator]
    print(json.dumps(measured | {"peak_mib": peak_mib()}))
