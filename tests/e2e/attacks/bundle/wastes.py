"""Tasks of the hostile team support that use up what pods share: disk, memory, processes, and the size of a log."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

from airflow.sdk import task

from kommuna.airflow import TeamDag

SMALL = {"resources": {"cpu": "500m", "memory": "768Mi"}}
DISK = 6 << 30  # bytes; a worker may use 4 GiB
MOST_PROCESSES = 10_000
CHILD_SECONDS = 60
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
    def forks() -> dict[str, Any]:
        """Forks until it is refused; returns how many processes it got."""
        children = []
        why = "nothing"
        try:
            while len(children) < MOST_PROCESSES:
                child = os.fork()
                if child == 0:
                    time.sleep(CHILD_SECONDS)
                    os._exit(0)
                children.append(child)
        except OSError as error:
            why = f"{type(error).__name__}: {error}"
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        refused = len(children) < MOST_PROCESSES
        evidence = f"after {len(children)} processes: {why}"
        line = {"attack": "a task forks without end", "layer": "kubelet", "refused": refused, "evidence": evidence}
        return {"lines": [line]}

    @task
    def floods_log(dag_run: Any = None) -> None:
        """Prints a log of some megabytes."""
        text = "x" * LINE_BYTES
        for _ in range(int(dag_run.conf["log_megabytes"] * 1_000_000 / LINE_BYTES)):
            print(text)

    fills_disk()
    eats_memory()
    forks()
    floods_log()
