"""`Embedded`: starts the embedded platform, reports its state, and stops it without leaving processes behind."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil

from kommuna.clients.mlflow import MlflowApi
from kommuna.embedded import supervision
from kommuna.embedded.access import Access, token
from kommuna.embedded.database import databases, server
from kommuna.embedded.disk import explained_disk_errors, require_space
from kommuna.embedded.health import failed_start, raise_if_dead, unhealthy, wait_healthy
from kommuna.embedded.launch import STARTS_FOLDER, starts_of
from kommuna.embedded.leftovers import end_all, marked, memory_bytes
from kommuna.embedded.liveness import check_liveness
from kommuna.embedded.ports import require_free
from kommuna.embedded.prepare import is_prepared
from kommuna.embedded.secrets import load_or_create_secrets
from kommuna.embedded.settings import (
    ADMIN,
    commands,
    mlflow_url,
    ports_needed,
    process_environment,
    program_names,
    state_folder,
)
from kommuna.embedded.sockets import remove_sockets_folder
from kommuna.embedded.supervision import ProcessState, running_file
from kommuna.errors import PlatformFault
from kommuna.locks import is_held, one_at_a_time
from kommuna.spec.installation import Installation
from kommuna.waiting import wait_until

Progress = Callable[[str], None]


class Embedded:
    """The embedded platform of one kommuna.yaml.

    Args:
        installation: the platform's description and its folder.
    """

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.state = state_folder(installation)

    @property
    def access(self) -> Access:
        """Addresses, logins and passwords."""
        return Access.of(self.installation)

    def running(self) -> bool:
        """Whether supervisord answers."""
        return supervision.client(self.state) is not None

    def up(self, progress: Progress = lambda line: None, *, keep: bool = True) -> Access:
        """Starts everything and waits until it is healthy. Idempotent: a running platform is left running.

        Args:
            progress: called with a line of text at each stage.
            keep: whether `release` leaves it running. Once true, later calls do not change it.

        Raises:
            PlatformFault: a port is taken, a database cannot be prepared, or a process dies. Nothing stays running.
            SpecError: kommuna.yaml gives one login two roles.
        """
        with explained_disk_errors(self.state), self._alone(progress):
            if self.running() and running_file(self.state).exists():
                self._resume(progress, keep=keep)
                return Access.of(self.installation, already_running=True)
            self._stop()  # processes of a killed start, or of a killed supervisord
            require_free(ports_needed(self.installation))
            require_space(self.state)
            try:
                self._start(progress, keep=keep)
            except BaseException:
                self._stop()
                raise
            return self.access

    def down(self) -> bool:
        """Stops everything; returns whether something was running. Only this platform's processes are ended."""
        if not self.state.exists():
            return False
        with explained_disk_errors(self.state), self._alone(lambda line: None):
            return self._stop()

    def release(self) -> bool:
        """Stops a platform started with `keep=False`, unless it was kept since; returns whether it was stopped."""
        with explained_disk_errors(self.state), self._alone(lambda line: None):
            path = running_file(self.state)
            return path.exists() and not json.loads(path.read_text())["keep"] and self._stop()

    def status(self) -> list[ProcessState]:
        """Returns the state of each process, with the problems of running ones; empty if the platform is down."""
        found = supervision.processes(self.state)
        checked = check_liveness(self.installation, [process.name for process in found if process.state == "running"])
        return [replace(process, trouble=checked[process.name].trouble) if process.name in checked else process
                for process in found]  # fmt: skip

    def is_busy(self) -> bool:
        """Whether a start or a stop is in progress."""
        return is_held(self._lock)

    def orphan_count(self) -> int:
        """Returns the number of the platform's processes that outlived their supervisor."""
        return 0 if self.running() else len(marked(str(self.state)))

    def healthy(self) -> bool:
        """Whether every process answers or has sent a recent heartbeat."""
        return not any(self._unhealthy())

    def memory(self) -> int:
        """Returns the memory (proportional set size, bytes) of all the platform's processes, including steps."""
        return memory_bytes(marked(str(self.state)))

    def token(self, login: str = ADMIN) -> str:
        """Returns a token for Airflow's REST API.

        Raises:
            PlatformFault: there is no such login, or Airflow does not answer.
        """
        return token(self.access, login)

    def environment(self) -> dict[str, str]:
        """Returns the environment of the platform's processes."""
        return process_environment(self.installation, load_or_create_secrets(self.state / "secrets"), os.environ)

    @property
    def _lock(self) -> Path:
        return self.state / "lock"

    def _alone(self, progress: Progress) -> contextlib.AbstractContextManager[None]:
        """One start or stop at a time."""
        return one_at_a_time(self._lock, lambda: progress("waiting for another start or stop of this platform"))

    def _unhealthy(self) -> Iterator[str]:
        return unhealthy(self.installation)

    def _start(self, progress: Progress, *, keep: bool) -> None:
        for folder in ("airflow/dags", "mlflow/artifacts", "logs", "store", STARTS_FOLDER):
            (self.state / folder).mkdir(parents=True, exist_ok=True)
        _ = self.access
        server.make(self.state)
        self._start_supervisord()
        self._start_postgres()
        # Two chains in parallel: neither Airflow nor MLflow has to wait for the other's schema.
        with ThreadPoolExecutor() as pool:
            starts = [pool.submit(self._start_airflow, progress)]
            if not self.installation.platform.mlflow:
                starts.append(pool.submit(self._start_mlflow, progress))
            try:
                for start in starts:
                    start.result()
            except BaseException:
                self._stop()  # also ends the preparations, which the pool would wait for
                raise
        self._start_programs("watch")
        wait_healthy(self.installation)
        self._make_workspaces()
        self._note_running(keep=keep)

    def _note_running(self, *, keep: bool) -> None:
        content = {"description": self._description(), "keep": keep}
        running_file(self.state).write_text(json.dumps(content))

    def _resume(self, progress: Progress, *, keep: bool) -> None:
        """Restarts the programs of a running platform that have failed, and waits until all are healthy."""
        known = json.loads(running_file(self.state).read_text())
        if known["description"] != self._description():
            raise PlatformFault(
                "the platform runs with an older kommuna.yaml",
                where=str(self.installation.root / "kommuna.yaml"),
                fix="restart it: kommuna down, then kommuna up",
            )
        if keep and not known["keep"]:
            self._note_running(keep=True)
        supervisor = supervision.client(self.state)
        for info in supervisor.getAllProcessInfo():
            if info["statename"] in ("FATAL", "STOPPED", "EXITED"):
                progress(f"restarting {info['name']}")
                supervision.start_program(supervisor, info["name"])
        before = {name: starts_of(self.state, name) for name in program_names(self.installation)}
        wait_healthy(self.installation, before=before)

    def _stop(self) -> bool:
        supervisor = supervision.client(self.state)
        if supervisor is not None:
            supervisord = psutil.Process(supervisor.getPID())
            with contextlib.suppress(Exception):
                supervisor.shutdown()
            with contextlib.suppress(psutil.TimeoutExpired):
                supervisord.wait(timeout=60)
        left = marked(str(self.state))
        end_all([process for process in left if not server.is_server(process)])
        server.stop_orphan(self.state)
        end_all(marked(str(self.state)))
        remove_sockets_folder(self.state)
        for path in (self.state / "supervisord.pid", running_file(self.state)):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.state / STARTS_FOLDER, ignore_errors=True)
        return supervisor is not None or bool(left)

    def _start_supervisord(self) -> None:
        """Starts supervisord in its own session, so that a Ctrl-C does not reach it."""
        programs = commands(self.installation, Path(sys.executable).parent)
        configuration = supervision.write_configuration(self.state, programs)
        with (self.state / "logs" / "supervisord.out").open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "kommuna.embedded.supervise", "-c", str(configuration)],
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd=self.state,
                start_new_session=True,
            )

        def fault() -> PlatformFault:
            log = self.state / "logs" / "supervisord.out"
            return PlatformFault(f"supervisord does not start: {log.read_text()[-300:].strip()}", where=str(log))

        def runs() -> bool:
            if self.running():
                return True
            if process.poll() is not None:
                raise fault()
            return False

        wait_until("supervisord runs", runs, seconds=30, every=0.05, late=fault)

    def _start_postgres(self) -> None:
        self._start_programs(server.PROGRAM)

        def still_starting() -> None:
            raise_if_dead(self.state)

        databases.wait_until_ready(self.state, still_starting)
        databases.ensure_roles(self.state)

    def _start_airflow(self, progress: Progress) -> None:
        self._prepare("airflow", progress)
        self._start_programs("api-server", "scheduler", "dag-processor", "triggerer")
        progress("starting Airflow")

    def _start_mlflow(self, progress: Progress) -> None:
        self._prepare("mlflow", progress)
        self._start_programs("mlflow")
        progress("starting MLflow")

    def _prepare(self, name: str, progress: Progress) -> None:
        """Migrates a database to this version's schema and content, unless its note says that it has them."""
        if is_prepared(self.installation, name):
            return
        progress(f"preparing the database of {name}")
        earlier = self.state / name / f"{name}.db"
        if earlier.exists() and databases.note(self.state, name) is None:
            progress(
                f"{earlier} is the SQLite database of an earlier Kommuna. It is kept, but no longer used: "
                f"{name} starts with a new database (docs/embedded.md describes how to keep its content)"
            )
        log = self.state / "logs" / f"{name}-prepare.log"
        command = [sys.executable, "-m", "kommuna.embedded.prepare", name]
        with log.open("w") as file:
            code = subprocess.run(
                command, env=self.environment(), stdout=file, stderr=subprocess.STDOUT, cwd=self.state, check=False
            ).returncode
        if code:
            raise failed_start(self.state, log.stem, f"the database of {name} could not be prepared (exit code {code})")

    def _start_programs(self, *names: str) -> None:
        supervisor = supervision.client(self.state)
        if supervisor is None:
            raise failed_start(self.state, "supervisord", "supervisord died while the platform was starting")
        for name in names:
            supervision.start_program(supervisor, name)

    def _make_workspaces(self) -> None:
        """Creates a registry workspace per team on the platform's own MLflow server. Existing ones are kept."""
        for team in self.installation.platform.teams if not self.installation.platform.mlflow else ():
            MlflowApi(mlflow_url(self.installation)).make_workspace(team)

    def _description(self) -> str:
        """Returns a digest of everything that a running platform depends on."""
        content = self.installation.platform.model_dump_json() + str(self.installation.root)
        return hashlib.sha256(content.encode()).hexdigest()
