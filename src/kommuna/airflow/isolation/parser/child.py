"""Parses one DAG file in one process: Airflow's own parsing, with limits and without secrets."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
from dataclasses import dataclass
from pathlib import Path

from kommuna.airflow.isolation.parser import processes

MAX_PROCESSES = 512  # of this user on this machine; the server stops a file that has more than MAX_TREE of its own
MAX_FILE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True)
class ParseLimits:
    """The limits of one file's process.

    Attributes:
        memory: bytes beyond what the warm fork server uses.
        seconds: time of the processor, and of the clock.
        processes: processes of the user on this machine.
    """

    memory: int
    seconds: int
    processes: int = MAX_PROCESSES


def parse(
    requests: socket.socket,
    output: socket.socket,
    logs: socket.socket,
    folder: Path,
    original: str,
    limits: ParseLimits,
) -> None:
    """Runs Airflow's parsing in a child of this process. This process supervises the child and ends as it does.

    Args:
        requests: the socket of Airflow's supervisor protocol, which delivers the parse request.
        output: receives what the file prints.
        logs: receives Airflow's log lines, as JSON.
        folder: the bundle.
        original: the file's path at the processor.
        limits: limits of the child.
    """
    os.setsid()
    processes.keep(lambda: _parse(requests, output, logs, folder, original, limits))


def _parse(
    requests: socket.socket,
    output: socket.socket,
    logs: socket.socket,
    folder: Path,
    original: str,
    limits: ParseLimits,
) -> None:
    from airflow.dag_processing.processor import _parse_file_entrypoint
    from airflow.sdk.execution_time.supervisor import _fork_main

    limit(limits)
    os.chdir(folder)
    _name_modules_after(original)
    # Team code does not need the parser's settings; what remains in the environment is public.
    for name in [name for name in os.environ if name.startswith("KOMMUNA_PARSER_")]:
        del os.environ[name]
    _fork_main(requests, output, output.dup(), logs.fileno(), _parse_file_entrypoint)


def limit(limits: ParseLimits) -> None:
    """Applies limits to this process and the processes that it starts."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(
            "1000"
        )  # out of memory, the kernel kills this process and not the server
    memory = data_bytes() + limits.memory
    for name, value in (
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_CPU, limits.seconds),
        (resource.RLIMIT_NPROC, limits.processes),
        (resource.RLIMIT_FSIZE, MAX_FILE_BYTES),
        (resource.RLIMIT_NOFILE, 256),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(name)[1]
        bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(name, (bound, bound))


def data_bytes() -> int:
    """Returns the private writable memory of this process in bytes, which RLIMIT_DATA limits."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) * 1024
    return 0


def _name_modules_after(original: str) -> None:
    """Names the file's module by its path at the processor.

    A serialised DAG contains the module's name, so the name must not change with the folder of a commit.
    """
    from airflow.dag_processing.importers import python_importer
    from airflow.utils.file import get_unique_dag_module_name

    vars(python_importer)["get_unique_dag_module_name"] = lambda _path: get_unique_dag_module_name(original)
