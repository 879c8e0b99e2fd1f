"""50 keyword and regex rules over 500,000 and 5,000,000 messages: `apply_rules` and Snorkel's `PandasLFApplier`.

The rules are those of the support team's file that look at the text; keyword rules with many keywords are parted in two
until there are 50. Snorkel's functions are the same rules as one compiled pattern each, which look at texts that were
lower-cased once: of the ways to write them that were tried, the fastest. Snorkel is timed on a sample of rows, its
lower-casing included, and scaled; its memory is of all messages loaded as they are and of the votes that it makes a
matrix of, the sample's repeated to all rows. Each runs in a process of its own, ours with the allocator settings of a
step's process. The votes of the sample have to be equal.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks._memory import peak_mib

from kommuna.runtime.limits import ALLOCATOR_VARIABLE, LEAN_ALLOCATOR
from kommuna.spec.rules import KeywordRule, RegexRule, Rule, RuleSet

ROOT = Path(__file__).resolve().parent.parent.parent
MESSAGES, SAMPLE, RULES = 500_000, 10_000, 50
COPIES = 10  # of the messages, with ids of their own: 5,000,000


def results() -> Iterator[dict[str, Any]]:
    """Yields name, seconds of ours and the peer's, their ratio, CPU seconds, and peak MiB of each process."""
    with tempfile.TemporaryDirectory(prefix="kommuna-bench-") as name:
        messages, many = Path(name, "messages.parquet"), Path(name, "many.parquet")
        _write_messages(messages)
        ours, peer = (_apart(which, messages) for which in ("ours", "snorkel"))
        yield {
            "name": f"{MESSAGES:,} messages x {RULES} rules over PandasLFApplier ({SAMPLE:,} rows scaled)",
            "ours": round(ours["seconds"], 3),
            "peer": round(peer["seconds"], 1),
            "ratio": round(peer["seconds"] / ours["seconds"], 1),
            "cpu_seconds": round(ours["cpu_seconds"], 3),
            "peer_cpu_seconds": round(peer["cpu_seconds"], 1),
            "cpu_ratio": round(peer["cpu_seconds"] / ours["cpu_seconds"], 1),
            "peak_mib": ours["peak_mib"],
            "peer_peak_mib": peer["peak_mib"],
            "peak_ratio": round(ours["peak_mib"] / peer["peak_mib"], 3),
            "same_votes": ours["votes"] == peer["votes"],
        }
        _write_copies(messages, many)
        ours = _apart("ours", many)
        yield {
            "name": f"{MESSAGES * COPIES:,} messages x {RULES} rules, peak MiB of 2,048",
            "ours": round(ours["seconds"], 3),
            "cpu_seconds": round(ours["cpu_seconds"], 3),
            "peak_mib": ours["peak_mib"],
            "ratio": round(ours["peak_mib"] / 2048, 3),
        }


def rules() -> RuleSet:
    """The 50 rules."""
    file = RuleSet.from_yaml(ROOT / "dags/support/rules.yaml")
    found = [rule for rule in file.rules if rule.reads == "text"]
    while len(found) < RULES:
        longest = max((rule for rule in found if isinstance(rule, KeywordRule)), key=lambda rule: len(rule.any))
        words = longest.any
        halves = (words[::2], words[1::2])
        found.remove(longest)
        found += [
            longest.model_copy(update={"name": f"{longest.name}_{i}", "any": half}) for i, half in enumerate(halves)
        ]
    return RuleSet(tags=file.tags, rules=tuple(found[:RULES]))


def _write_messages(path: Path) -> None:
    import pyarrow.parquet as pq

    from kommuna.demo.messages import message_blocks

    writer = None
    for block in message_blocks(MESSAGES, seed=1, stream=0, first_id=0):
        rows = block.select("id", "text").to_arrow()
        writer = writer or pq.ParquetWriter(path, rows.schema)
        writer.write_table(rows)
    if writer:
        writer.close()


def _write_copies(source: Path, path: Path) -> None:
    import polars as pl

    copies = [pl.scan_parquet(source).with_columns(id=pl.col("id") + f"_{i}") for i in range(COPIES)]
    pl.concat(copies).sink_parquet(path, row_group_size=100_000)


def _apart(which: str, path: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.rules", which, str(path)],
        cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True,
        env=os.environ | ({ALLOCATOR_VARIABLE: LEAN_ALLOCATOR} if which == "ours" else {}),
    )  # fmt: skip
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _ours(path: Path) -> dict[str, Any]:
    import polars as pl

    from kommuna.steps.labeling.apply import apply_rules

    chosen = rules()
    clock = _Clock()
    votes = apply_rules(pl.scan_parquet(path), chosen).votes
    measured = clock.seconds() | {"peak_mib": peak_mib()}
    tag_of = {tag: i for i, tag in enumerate(chosen.tags)}
    first = votes.head(SAMPLE).select(pl.exclude("id").cast(pl.String).replace_strict(tag_of, default=-1)).collect()
    return measured | {"votes": _digest(first.to_numpy())}


def _snorkel(path: Path) -> dict[str, Any]:
    import pandas as pd
    from snorkel.labeling import LabelingFunction, PandasLFApplier

    chosen = rules()
    table = pd.read_parquet(path)
    functions = [
        LabelingFunction(rule.name, _function(rule, chosen.tags.index(rule.tag or ""))) for rule in chosen.rules
    ]
    applier = PandasLFApplier(functions)
    clock = _Clock()
    sample = table.head(SAMPLE).copy()
    sample["lowered"] = sample["text"].str.lower()
    sample["folded"] = sample["lowered"].str.replace("ё", "е")
    votes = applier.apply(sample, progress_bar=False)
    measured = {name: value * MESSAGES / SAMPLE for name, value in clock.seconds().items()}
    cast = [[(j, int(vote)) for j, vote in enumerate(row) if vote >= 0] for row in votes]
    rows = [[(i, j, vote) for j, vote in cast[i % SAMPLE]] for i in range(MESSAGES)]
    applier._numpy_from_row_data(rows)
    return measured | {"peak_mib": peak_mib(), "votes": _digest(votes)}


def _function(rule: Rule, tag: int) -> Any:
    if isinstance(rule, RegexRule):
        search = re.compile(rule.regex).search
        return lambda row: tag if search(row.lowered) else -1
    words = [r"[\s–—-]+".join(map(re.escape, word.lower().replace("ё", "е").split())) for word in rule.any]
    search = re.compile(rf"(?<!\w)(?:{'|'.join(words)})(?!\w)").search
    return lambda row: tag if search(row.folded) else -1


class _Clock:
    """Measures wall time and CPU seconds of this process since its creation."""

    def __init__(self) -> None:
        self._began = time.perf_counter(), time.process_time()

    def seconds(self) -> dict[str, float]:
        wall, processor = self._began
        return {"seconds": time.perf_counter() - wall, "cpu_seconds": time.process_time() - processor}


def _digest(votes: Any) -> str:
    import numpy as np

    return hashlib.sha256(np.ascontiguousarray(votes, dtype=np.int64).tobytes()).hexdigest()


if __name__ == "__main__":
    print(json.dumps({"ours": _ours, "snorkel": _snorkel}[sys.argv[1]](Path(sys.argv[2]))))
