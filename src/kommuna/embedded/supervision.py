"""supervisord: its configuration, a client of its RPC socket, and the state of each process."""

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
# The DAG processor logs in its signal handler and hangs if the signal interrupts its logging; it has nothing to save.
# The scheduler waits for running tasks, which may take hours; they are rerun after the next start. The triggerer waits
# ten seconds for its other half; the state of its triggers is in the database.
_STOP_SECONDS = {"dag-processor": 3, "scheduler": 5, "triggerer": 3, POSTGRES: 30}


@dataclass(frozen=True)
class ProcessState:
    """One supervised process.

    Attributes:
        name: the program's name.
        state: running, starting, backoff (died, will be restarted), fatal (died too often), stopped.
        pid: its process id.
        seconds: the time since it was started.
        memory: its memory and that of its children, in bytes (proportional set size).
        restarts: the number of restarts since the platform came up.
        trouble: what is wrong although it runs (no answer, an old heartbeat); "" if nothing is known.
    """

    name: str
    state: str
    pid: int
    seconds: int
    memory: int
    restarts: int = 0
    trouble: str = ""


def socket_path(state: Path) -> Path:
    """Returns the path of supervisord's socket."""
    return sockets_folder(state) / "supervisor.sock"


def write_configuration(state: Path, programs: Mapping[str, Sequence[str]]) -> Path:
    """Writes supervisord.conf. The programs inherit supervisord's environment.

    No program starts automatically, since each depends on another step of the start. The programs of a group are
    stopped together; groups are stopped one after the other, the database last. Paths are relative to the state folder,
    where supervisord is started, and the commands are in a separate file, since in an absolute path supervisord would
    expand a `%` and take a ` #` for a comment.

    Args:
        state: the platform's state folder.
        programs: the command of each program, by name.
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
    """Returns supervisord's RPC interface; None if it does not answer."""
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

    If the program dies before supervisord answers, supervisord reports a fault. The fault is ignored: supervisord
    restarts the program as it does later, and its state shows the failure.

    Args:
        server: the result of `client`.
        name: the program's name.
    """
    from supervisor.xmlrpc import Faults

    try:
        server.startProcess(f"{_group(name)}:{name}", False)
    except xmlrpc.client.Fault as fault:
        if fault.faultCode != Faults.SPAWN_ERROR:
            raise


def restart_program(server: Any, name: str) -> None:
    """Stops a program, by force if necessary, and starts it.

    Args:
        server: the result of `client`.
        name: the program's name.
    """
    from supervisor.xmlrpc import Faults

    try:
        server.stopProcess(f"{_group(name)}:{name}")
    except xmlrpc.client.Fault as fault:
        if fault.faultCode != Faults.NOT_RUNNING:
            raise
    start_program(server, name)


def running_file(state: Path) -> Path:
    """Returns the file that records that a start completed, and what was started."""
    return state / "running.json"


def processes(state: Path) -> list[ProcessState]:
    """Returns the supervised processes, sorted by name; none if supervisord does not answer."""
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
