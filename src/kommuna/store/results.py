"""`Results`: which manifests answer which question, what a task was last given, and who is working on an answer.

```
<store>/<team>/results/<ab>/<question>/<key>   a candidate: that manifest answers the question, if its uses still hold
<store>/<team>/tasks/<ab>/<digest>             the key of what a task left or was given last: why the next one is a miss
<store>/<team>/claims/<ab>/<question>          held by the run that works on the question
```
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import time
import uuid
from collections.abc import Callable, Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path

import structlog

from kommuna.errors import StoreError
from kommuna.locks import one_at_a_time
from kommuna.store.manifest import Manifest
from kommuna.store.store import Store, changed

log = structlog.get_logger()

MOST_CANDIDATES = 64  # of one question; those that were not given to a run for longest go
LEASE_SECONDS = 60.0
_POLL_SECONDS = 1.0
_KEY = re.compile(rb"[0-9a-f]{64}")


class Results:
    """The answers in a team's part of the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def candidates(self, question: str) -> list[str]:
        """Keys of manifests that answer a question, the one that was made or given to a run last first."""
        store = self._store
        folder = self._candidates_folder(question)
        with store.faults():
            try:
                if store.is_local:
                    found = [(entry.stat().st_mtime, entry.name) for entry in os.scandir(folder) if entry.is_file()]
                else:
                    store.fs.invalidate_cache(folder)
                    found = [
                        (changed(info).timestamp(), str(info["name"]).rsplit("/", 1)[1])
                        for info in store.fs.ls(folder, detail=True)
                    ]
            except FileNotFoundError:
                return []
        return [name for _, name in sorted(found, reverse=True) if "." not in name]

    def add(self, question: str, key: str) -> None:
        """Makes a manifest a candidate, or the newest one again."""
        self._store.write(f"{self._candidates_folder(question)}/{key}", key.encode())
        for old in self.candidates(question)[MOST_CANDIDATES:]:
            self.remove(question, old)

    def given(self, question: str, key: str) -> None:
        """Notes that a run was given a candidate: it is the newest one again."""
        try:
            self.add(question, key)
        except StoreError as error:
            log.warning("step.not_noted", question=question[:12], reason=error.what)

    def remove(self, question: str, key: str) -> None:
        """The manifest answers the question no more."""
        with self._store.faults(), contextlib.suppress(FileNotFoundError):
            self._store.fs.rm_file(f"{self._candidates_folder(question)}/{key}")

    def last(self, dag_id: str, task_id: str, function: str) -> Manifest | None:
        """What a task left or was given last."""
        key = self._key_in(self._task_path(dag_id, task_id, function))
        return self._store.manifest(key) if key else None

    def remember(self, dag_id: str, task_id: str, function: str, key: str) -> None:
        """Notes what a task left or was given: only a later miss's words depend on it."""
        try:
            self._store.write(self._task_path(dag_id, task_id, function), key.encode())
        except StoreError as error:
            log.warning("step.not_noted", task=task_id, reason=error.what)

    def forget(self, keys: Collection[str]) -> None:
        """Removes notes of what tasks left, of manifests that are gone."""
        if not keys:
            return
        store = self._store
        with store.faults():
            try:
                paths = [str(path) for path in store.fs.find(f"{store.root}/tasks")]
            except FileNotFoundError:
                return
            for path in paths:
                with contextlib.suppress(FileNotFoundError):
                    if self._key_in(path) in keys:
                        store.fs.rm_file(path)

    @contextlib.contextmanager
    def claim(self, question: str) -> Iterator[None]:
        """Holds a question: another run of the same work waits until this one has its answer, or has ended.

        A run whose answer can be given to nobody should not be waited for.
        """
        path = self._path("claims", question)

        def waiting() -> None:
            log.info("step.waits", question=question[:12], why="another run is asked the same: its result may do")

        if self._store.is_local:
            with self._store.faults():
                Path(path).parent.mkdir(parents=True, exist_ok=True)
            with one_at_a_time(Path(path), waiting, remove=True):
                yield
            return
        with self._lease(path, waiting):
            yield

    # --- below ---------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _lease(self, path: str, waiting: Callable[[], None]) -> Iterator[None]:
        """A claim on an object store: an object that its holder writes anew while it works."""
        import threading

        me = uuid.uuid4().hex.encode()
        told = False
        while not self._take(path, me):
            if not told:
                waiting()
                told = True
            time.sleep(_POLL_SECONDS)
        done = threading.Event()

        def renew() -> None:
            while not done.wait(LEASE_SECONDS / 3):
                try:
                    self._store.write(path, me)
                except StoreError as error:
                    log.warning("step.claim_not_renewed", reason=error.what)

        renewing = threading.Thread(target=renew, daemon=True, name="claim")
        renewing.start()
        try:
            yield
        finally:
            done.set()
            renewing.join()
            with contextlib.suppress(StoreError, FileNotFoundError), self._store.faults():
                if self._store.fs.cat_file(path) == me:
                    self._store.fs.rm_file(path)

    def _take(self, path: str, me: bytes) -> bool:
        """Whether the claim is this run's now: nobody holds it, or its holder has not renewed it."""
        fs = self._store.fs
        with self._store.faults():
            try:
                fs.pipe_file(path, me, mode="create")
            except FileExistsError:
                pass
            except OSError as error:
                if "NotImplemented" in str(error):  # a server without conditional writing: the last one has it
                    if not fs.exists(path):
                        fs.pipe_file(path, me)
                elif "PreconditionFailed" not in str(error) and "pre-condition" not in str(error).lower():
                    raise
            try:
                fs.invalidate_cache(path)
                held, info = fs.cat_file(path), fs.info(path)
            except FileNotFoundError:
                return False  # it was just let go: tried again
            if held == me:
                return True
            if (datetime.now(UTC) - changed(info)).total_seconds() > LEASE_SECONDS:
                fs.rm_file(path)
            return False

    def _key_in(self, path: str) -> str:
        """The manifest's key that a small file holds; empty where there is none, or a damaged one."""
        with self._store.faults():
            try:
                raw = self._store.fs.cat_file(path)
            except (FileNotFoundError, IsADirectoryError):
                return ""
        if not _KEY.fullmatch(raw):
            log.warning("store.file_damaged", path=path, hint="it counts as not there")
            return ""
        return str(raw, "ascii")

    def _candidates_folder(self, question: str) -> str:
        return self._path("results", question)

    def _task_path(self, dag_id: str, task_id: str, function: str) -> str:
        digest = hashlib.sha256(f"{dag_id}\n{task_id}\n{function}".encode()).hexdigest()
        return self._path("tasks", digest)

    def _path(self, part: str, digest: str) -> str:
        return f"{self._store.root}/{part}/{digest[:2]}/{digest}"
