"""`Embedded`: brings the embedded platform up, tells how it is, and takes it down without leftovers."""

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
from kommuna.embedded.disk import disk_errors_told, require_space
from kommuna.embedded.health import failed_start, raise_if_dead, unhealthy, wait_healthy
from kommuna.embedded.launch import STARTS_FOLDER, starts_of
from kommuna.embedded.leftovers import end_all, marked, memory_bytes
from kommuna.embedded.ports import require_free
from kommuna.embedded.prepare import is_prepared
from kommuna.embedded.secrets import kept_secrets
from kommuna.embedded.settings import (
    ADMIN,
    commands,
    mlflow_url,
    ports_needed,
    process_environment,
    program_names,
    state_folder,
)
from kommuna.embedded.signs import signs
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
        installation: the description and its folder.
    """

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self.state = state_folder(installation)

    @property
    def access(self) -> Access:
        """Addresses, logins (login to team) and passwords."""
        return Access.of(self.installation)

    def running(self) -> bool:
        """Whether supervisord answers."""
        return supervision.client(self.state) is not None

    def up(self, progress: Progress = lambda line: None, *, keep: bool = True) -> Access:
        """Starts everything and waits until it is healthy; where it runs already, says so.

        Args:
            progress: told each stage, in a line for people.
            keep: whether `release` leaves it running; once kept, it is.

        Raises:
            PlatformFault: a port is taken, a database cannot be prepared, or a process dies; nothing stays running.
            SpecError: kommuna.yaml gives one login two roles.
        """
        with disk_errors_told(self.state), self._alone(progress):
            if self.running() and running_file(self.state).exists():
                self._resume(progress, keep=keep)
                return Access.of(self.installation, already_running=True)
            self._stop()  # what a killed start, or a killed supervisord, has left
            require_free(ports_needed(self.installation))
            require_space(self.state)
            try:
                self._start(progress, keep=keep)
            except BaseException:
                self._stop()
                raise
            return self.access

    def down(self) -> bool:
        """Stops everything; True where something ran. Only processes with this platform's mark are ended."""
        if not self.state.exists():
            return False
        with disk_errors_told(self.state), self._alone(lambda line: None):
            return self._stop()

    def release(self) -> bool:
        """Stops what was started with `keep=False`, unless somebody has since asked for it; True where it did."""
        with disk_errors_told(self.state), self._alone(lambda line: None):
            path = running_file(self.state)
            return path.exists() and not json.loads(path.read_text())["keep"] and self._stop()

    def status(self) -> list[ProcessState]:
        """Each process, with what is wrong though it runs; empty where the platform is down."""
        found = supervision.processes(self.state)
        heard = signs(self.installation, [process.name for process in found if process.state == "running"])
        return [replace(process, trouble=heard[process.name].trouble) if process.name in heard else process
                for process in found]  # fmt: skip

    def is_busy(self) -> bool:
        """Whether a start or a stop is going on."""
        return is_held(self._lock)

    def left(self) -> int:
        """How many of the platform's processes go on though their supervisor is gone."""
        return 0 if self.running() else len(marked(str(self.state)))

    def healthy(self) -> bool:
        """Whether every process answers, or has given a sign of life of late."""
        return not any(self._unhealthy())

    def memory(self) -> int:
        """Bytes (proportional set size) of all of the platform's processes, running steps included."""
        return memory_bytes(marked(str(self.state)))

    def token(self, login: str = ADMIN) -> str:
        """A token for Airflow's REST API.

        Raises:
            PlatformFault: no such login, or Airflow does not answer.
        """
        return token(self.access, login)

    def environment(self) -> dict[str, str]:
        """The environment of the platform's processes."""
        return process_environment(self.installation, kept_secrets(self.state / "secrets"), os.environ)

    # --- below ---------------------------------------------------------------------------------------------------

    @property
    def _lock(self) -> Path:
        return self.state / "lock"

    def _alone(self, progress: Progress) -> contextlib.AbstractContextManager[None]:
        """One start or stop at a time."""
        return one_at_a_time(self._lock, lambda: progress("waiting for another start or stop of this platform to end"))

    def _unhealthy(self) -> Iterator[str]:
        return unhealthy(self.installation)

    def _start(self, progress: Progress, *, keep: bool) -> None:
        for folder in ("airflow/dags", "mlflow/artifacts", "logs", "store", STARTS_FOLDER):
            (self.state / folder).mkdir(parents=True, exist_ok=True)
        _ = self.access
        server.make(self.state)
        self._start_supervisord()
        self._start_postgres()
        # Two chains side by side: Airflow's servers need not wait for MLflow's schema, nor MLflow for Airflow's.
        with ThreadPoolExecutor() as pool:
            jobs = [pool.submit(self._start_airflow, progress)]
            if not self.installation.platform.mlflow:
                jobs.append(pool.submit(self._start_mlflow, progress))
            try:
                for job in jobs:
                    job.result()
            except BaseException:
                self._stop()  # with the preparations, for which the pool would wait
                raise
        self._start_programs("watch")
        wait_healthy(self.installation)
        self._make_workspaces()
        self._note_running(keep=keep)

    def _note_running(self, *, keep: bool) -> None:
        content = {"description": self._description(), "keep": keep}
        running_file(self.state).write_text(json.dumps(content))

    def _resume(self, progress: Progress, *, keep: bool) -> None:
        """Where the platform runs: starts again what has given up, and waits until all is well."""
        known = json.loads(running_file(self.state).read_text())
        if known["description"] != self._description():
            raise PlatformFault(
                "the platform runs with an older kommuna.yaml",
                where=str(self.installation.root / "kommuna.yaml"),
                fix="take it down and up again: kommuna down, then kommuna up",
            )
        if keep and not known["keep"]:
            self._note_running(keep=True)
        supervisor = supervision.client(self.state)
        for info in supervisor.getAllProcessInfo():
            if info["statename"] in ("FATAL", "STOPPED", "EXITED"):
                progress(f"starting {info['name']} again")
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
        server.end_left(self.state)
        end_all(marked(str(self.state)))
        remove_sockets_folder(self.state)
        for path in (self.state / "supervisord.pid", running_file(self.state)):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.state / STARTS_FOLDER, ignore_errors=True)
        return supervisor is not None or bool(left)

    def _start_supervisord(self) -> None:
        """supervisord in a session of its own, so that a Ctrl-C reaches it only through `down`."""
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

        databases.wait_until_it_answers(self.state, still_starting)

    def _start_airflow(self, progress: Progress) -> None:
        self._prepare("airflow", progress)
        self._start_programs("api-server", "scheduler", "dag-processor", "triggerer")
        progress("starting Airflow")

    def _start_mlflow(self, progress: Progress) -> None:
        self._prepare("mlflow", progress)
        self._start_programs("mlflow")
        progress("starting MLflow")

    def _prepare(self, name: str, progress: Progress) -> None:
        """Brings a database to this version's schema and content, where it is not known to have them."""
        if is_prepared(self.installation, name):
            return
        progress(f"preparing the database of {name}")
        earlier = self.state / name / f"{name}.db"
        if earlier.exists() and databases.note(self.state, name) is None:
            progress(
                f"{earlier} is the SQLite database of an earlier Kommuna: it is left as it is and no longer used, "
                f"{name} begins with a new database (docs/embedded.md says how to keep what was in it)"
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
        """A registry workspace a team on the platform's own MLflow server; one that exists is left as it is."""
        for team in self.installation.platform.teams if not self.installation.platform.mlflow else ():
            MlflowApi(mlflow_url(self.installation)).make_workspace(team)

    def _description(self) -> str:
        """A digest of all that a running platform was started with."""
        content = self.installation.platform.model_dump_json() + str(self.installation.root)
        return hashlib.sha256(content.encode()).hexdigest()
