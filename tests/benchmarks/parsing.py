"""Cost of parsing with the team's parser, compared with Airflow's processor: one file, and five hundred.

Both processors run as they are shipped, with two files at a time, on the same files and a fresh database each. The
figure for one file is a file's latency once everything is warm, of Airflow's own record; that for many is the wall
time from the first file's start to the last one's end.
"""

from __future__ import annotations

import os
import re
import sqlite3
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.rigs.isolation import Rig, migrated_database

FILES = int(os.environ.get("KOMMUNA_BENCH_FILES", "500"))
STEPS = """
from kommuna.airflow import StepOperator, TeamDag
with TeamDag("{name}"):
    before = None
    for i in range(3):
        before = StepOperator(task_id=f"s{{i}}", function="steps:one", inputs={{"table": before}}, parameters={{"turn": i}})
"""


def results() -> Iterator[dict[str, Any]]:
    """Yields name, ours and peer in seconds, and their ratio."""
    with tempfile.TemporaryDirectory(prefix="kommuna-bench-") as name:
        database = Path(name, "database", "airflow.db")
        migrated_database(database)
        for files in (1, FILES):
            ours = _measure(Path(name, f"ours-{files}"), database, files, relayed=True)
            peer = _measure(Path(name, f"peer-{files}"), database, files, relayed=False)
            for what in ("a file", "all")[: 1 if files == 1 else 2]:
                ratio = round(ours[what] / peer[what], 3)
                title = f"{files} file(s) by the parser over the stock processor, {what}"
                yield {"name": title, "ours": round(ours[what], 3), "peer": round(peer[what], 3), "ratio": ratio}


def _measure(folder: Path, database: Path, files: int, *, relayed: bool) -> dict[str, float]:
    """Returns the seconds for one file (median) and for all files."""
    rig = Rig(folder, database, patience=3600)
    for number in range(files):
        rig.write(f"dag{number:03}.py", STEPS.format(name=f"d{number:03}"))
    settings = {"AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES": "2", "KOMMUNA_PLATFORM": str(folder / "kommuna.yaml")}
    process = rig.process if relayed else rig.process_by_stock
    try:
        if relayed:
            rig.start_parser()
        for _ in range(2 if files == 1 else 1):  # so that one file's figure is without the sending of the bundle
            process(**settings)
    finally:
        rig.stop()
    if rig.errors():
        raise RuntimeError(next(iter(rig.errors().values())))
    with sqlite3.connect(rig.db) as connection:
        rows = connection.execute("select last_parse_duration, last_parsed_time from dag order by 2").fetchall()
    durations = sorted(float(row[0]) for row in rows)
    first, last = (_seconds(str(rows[place][1])) for place in (0, -1))
    return {"a file": durations[len(durations) // 2], "all": last - first + durations[0]}


def _seconds(stamp: str) -> float:
    """Returns the seconds of the day of a database time stamp."""
    match = re.search(r"(\d\d):(\d\d):(\d\d(?:\.\d+)?)", stamp)
    assert match is not None
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])
