"""supervisord: its configuration, a client of its RPC socket, and what it says of each process."""

from __future__ import annotations

import configparser
import contextlib
import json
import shlex
import sys
import xmlrpc.client
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from kommuna.embedded import launch
from kommuna.embedded.database.server import PROGRAM as POSTGRES
from kommuna.embedded.leftovers import memory_bytes
from kommuna.embedded.sockets import is_private, make_sockets_folder, sockets_folder

GROUP = "kommuna"
_DATABASE = "database"
# Airflow's scheduler and DAG processor leave children behind on SIGTERM and end cleanly on SIGINT.
# PostgreSQL waits for its clients on SIGTERM, and ends at once, in order, on SIGINT.
_STOP_SIGNALS = {"scheduler": "INT", "dag-processor": "INT", POSTGRES: "INT"}
# The DAG processor logs from its signal handler, and hangs where the signal meets it logging; it has nothing to save.
# The scheduler waits for running tasks, which may take hours: they are run again after the next start. The triggerer
# waits ten seconds for its other half; what its triggers wait for is in the database.
_STOP_SECONDS = {"dag-processor": 3, "scheduler": 5, "triggerer": 3, POSTGRES: 30}


@dataclass(frozen=True)
class ProcessState:
    """One supervised process.

    Attributes:
        state: running, starting, backoff (died, starts again), fatal (died too often), stopped.
        seconds: since it was started.
        memory: bytes (proportional set size), with its children.
        restarts: times that it was started again since the platform came up.
        trouble: what is wrong though it runs (it does not answer, its last heartbeat is old); "" if nothing is known.
    """

    name: str
    state: str
    pid: int
    seconds: int
    memory: int
    restarts: int = 0
    trouble: str = ""


def socket_path(state: Path) -> Path:
    """supervisord's socket."""
    return sockets_folder(state) / "supervisor.sock"


def write_configuration(state: Path, programs: Mapping[str, Sequence[str]]) -> Path:
    """Writes supervisord.conf; environment variables are inherited from supervisord's own.

    Nothing starts by itself, for each program has something to wait for. The programs are one group, which is stopped
    all at once; groups are stopped one after the other, that of the database last. Paths are relative to the state
    folder, in which supervisord is started, and the commands stand in a file of their own: in the folder's own name, a
    `%` would be expanded and a ` #` would begin a comment.
    """
    (state / launch.COMMANDS).write_text(json.dumps(programs))
    make_sockets_folder(state)
    config = configparser.RawConfigParser()
    config["unix_http_server"] = {"file": str(socket_path(state)), "chmod": "0600"}
    config["supervisord"] = {
        "logfile": "logs/supervisord.log",
        "logfile_maxbytes": "5MB",
        "pidfile": "supervisord.pid",
        "nodaemon": "true",
        "silent": "true",
        "childlogdir": "logs",
    }
    config["rpcinterface:supervisor"] = {
        "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
    }
    for group in sorted({_group(name) for name in programs}):
        members = ",".join(name for name in programs if _group(name) == group)
        config[f"group:{group}"] = {"programs": members, "priority": "1" if group == _DATABASE else "999"}
    for name in programs:
        config[f"program:{name}"] = {
            "command": shlex.join([sys.executable, "-m", launch.__name__, name]).replace("%", "%%"),
            "autostart": "false",
            "autorestart": "true",
            "startsecs": "1",
            "startretries": "3",
            "stopsignal": _STOP_SIGNALS.get(name, "TERM"),
            "stopwaitsecs": str(_STOP_SECONDS.get(name, 10)),
            "stopasgroup": "true",
            "killasgroup": "true",
            "redirect_stderr": "true",
            "stdout_logfile": f"logs/{name}.log",
            "stdout_logfile_maxbytes": "20MB",
            "stdout_logfile_backups": "2",
        }
    path = state / "supervisord.conf"
    with path.open("w") as file:
        config.write(file)
    return path


def client(state: Path) -> Any:
    """supervisord's RPC interface; None where it does not answer."""
    from supervisor.xmlrpc import SupervisorTransport

    if not is_private(sockets_folder(state)) or not socket_path(state).exists():
        return None
    transport = SupervisorTransport(None, None, serverurl=f"unix://{socket_path(state)}")
    server = xmlrpc.client.ServerProxy("http://127.0.0.1", transport=transport)
    try:
        server.supervisor.getState()
    except (OSError, xmlrpc.client.Error, ConnectionError):
        return None
    return server.supervisor


def start_program(server: Any, name: str) -> None:
    """Starts a program without waiting for it.

    One that has died before supervisord answers is reported as a fault, and started again like any that dies a little
    later: its state tells of it.

    Args:
        server: what `client` gives.
    """
    from supervisor.xmlrpc import Faults

    try:
        server.startProcess(f"{_group(name)}:{name}", False)
    except xmlrpc.client.Fault as fault:
        if fault.faultCode != Faults.SPAWN_ERROR:
            raise


def restart_program(server: Any, name: str) -> None:
    """Stops a program, by force where it does not listen, and starts it.

    Args:
        server: what `client` gives.
    """
    from supervisor.xmlrpc import Faults

    try:
        server.stopProcess(f"{_group(name)}:{name}")
    except xmlrpc.client.Fault as fault:
        if fault.faultCode != Faults.NOT_RUNNING:
            raise
    start_program(server, name)


def running_file(state: Path) -> Path:
    """The file that says that a start came to its end, and what was started."""
    return state / "running.json"


def processes(state: Path) -> list[ProcessState]:
    """Each supervised process, by name; none where supervisord does not answer."""
    server = client(state)
    found = []
    for info in server.getAllProcessInfo() if server is not None else ():
        running = info["statename"] == "RUNNING"
        found.append(
            ProcessState(
                name=info["name"],
                state=info["statename"].lower(),
                pid=info["pid"],
                seconds=max(0, info["now"] - info["start"]) if running else 0,
                memory=memory_bytes(_family(info["pid"])) if running else 0,
                restarts=max(0, launch.starts_of(state, info["name"]) - 1),
            )
        )
    return sorted(found, key=lambda process: process.name)


def _group(name: str) -> str:
    return _DATABASE if name == POSTGRES else GROUP


def _family(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.Error):
        return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return []
