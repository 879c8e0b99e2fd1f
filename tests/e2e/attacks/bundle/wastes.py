"""Tasks of the hostile team support that use up what pods share: disk, memory, processes, and the size of a log."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

from airflow.sdk import task

from kommuna.airflow import TeamDag

SMALL = {"resources": {"cpu": "500m", "memory": "768Mi"}}
DISK = 6 << 30  # bytes; a worker may use 4 GiB
MOST_PROCESSES = 10_000
LINE_BYTES = 8000

with TeamDag("wastes", schedule=None, default_args={"retries": 0, "executor_config": SMALL}):

    @task
    def fills_disk() -> None:
        """Takes blocks of the disk, and waits."""
        for number in range(DISK >> 29):
            with Path(f"/tmp/full{number}").open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, 1 << 29)
        time.sleep(600)

    @task
    def eats_memory() -> None:
        """Takes memory without end."""
        held = []
        while True:
            held.append(bytearray(b"x" * (32 << 20)))

    @task
    def starts_threads() -> dict[str, Any]:
        """Starts threads until it is refused: Linux counts them as processes, and they take less memory."""
        threading.stack_size(64 << 10)
        stop = threading.Event()
        count, why = 0, "nothing"
        try:
            while count < MOST_PROCESSES:
                threading.Thread(target=stop.wait, daemon=True).start()
                count += 1
        except RuntimeError as error:
            why = str(error)
        stop.set()
        attack = "a task starts processes without end"
        refused = count < MOST_PROCESSES
        return {
            "lines": [{"attack": attack, "layer": "kubelet", "refused": refused, "evidence": f"after {count}: {why}"}]
        }

    @task
    def floods_log(dag_run: Any = None) -> None:
        """Prints a log of some megabytes."""
        text = "x" * LINE_BYTES
        for _ in range(int(dag_run.conf["log_megabytes"] * 1_000_000 / LINE_BYTES)):
            print(text)

    fills_disk()
    eats_memory()
    starts_threads()
    floods_log()
