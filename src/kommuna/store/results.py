"""`Results`: the manifests that answer each question, each task's last result, and claims of running steps.

```
<store>/<team>/results/<ab>/<question>/<key>   a candidate: the manifest answers the question if its uses are unchanged
<store>/<team>/tasks/<ab>/<digest>             the key of a task's last result, to explain the next miss
<store>/<team>/claims/<ab>/<question>          held by the run that computes the answer
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
from kommuna.store.files import changed
from kommuna.store.manifest import Manifest
from kommuna.store.store import Store

log = structlog.get_logger()

MOST_CANDIDATES = 64  # per question; the least recently used are removed
LEASE_SECONDS = 60.0
_POLL_SECONDS = 1.0
_KEY = re.compile(rb"[0-9a-f]{64}")


class Results:
    """The cached results in a team's part of the store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def candidates(self, question: str) -> list[str]:
        """Returns keys of manifests that answer a question, the most recently used first."""
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
        """Adds a manifest as the newest candidate, or makes it the newest again.

        Args:
            question: the question's digest.
            key: the key of the manifest.
        """
        self._store.write(f"{self._candidates_folder(question)}/{key}", key.encode())
        for old in self.candidates(question)[MOST_CANDIDATES:]:
            self.remove(question, old)

    def given(self, question: str, key: str) -> None:
        """Records that a candidate was reused, which makes it the newest again."""
        try:
            self.add(question, key)
        except StoreError as error:
            log.warning("step.not_noted", question=question[:12], reason=error.what)

    def remove(self, question: str, key: str) -> None:
        """Removes a manifest from the candidates of a question."""
        with self._store.faults(), contextlib.suppress(FileNotFoundError):
            self._store.fs.rm_file(f"{self._candidates_folder(question)}/{key}")

    def last(self, dag_id: str, task_id: str, function: str) -> Manifest | None:
        """Returns the manifest of a task's last result, made or reused.

        Args:
            dag_id: the DAG's id.
            task_id: the task's id.
            function: the step's address.
        """
        key = self._key_in(self._task_path(dag_id, task_id, function))
        return self._store.manifest(key) if key else None

    def remember(self, dag_id: str, task_id: str, function: str, key: str) -> None:
        """Records a task's last result. Only the explanation of a later miss depends on it.

        Args:
            dag_id: the DAG's id.
            task_id: the task's id.
            function: the step's address.
            key: the key of the result's manifest.
        """
        try:
            self._store.write(self._task_path(dag_id, task_id, function), key.encode())
        except StoreError as error:
            log.warning("step.not_noted", task=task_id, reason=error.what)

    def forget(self, keys: Collection[str]) -> None:
        """Removes records of tasks' last results whose manifests were removed."""
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
        """Claims a question, so that other runs of the same work wait until this one has a result or has ended.

        Runs whose results cannot be reused must not claim: waiting for them is useless.
        """
        path = self._path("claims", question)

        def waiting() -> None:
            log.info(
                "step.waits", question=question[:12], why="another run computes the same: its result may be reused"
            )

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
        """Claims a question on an object store, by an object that the holder rewrites periodically."""
        import threading

        me = uuid.uuid4().hex.encode()
        is_logged = False
        while not self._take(path, me):
            if not is_logged:
                waiting()
                is_logged = True
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
        """Tries to take the claim. Removes one that its holder has not renewed, to be retried."""
        fs = self._store.fs
        with self._store.faults():
            try:
                fs.pipe_file(path, me, mode="create")
            except FileExistsError:
                pass
            except OSError as error:
                if "NotImplemented" in str(error):  # a server without conditional writes: the last writer wins
                    if not fs.exists(path):
                        fs.pipe_file(path, me)
                elif "PreconditionFailed" not in str(error) and "pre-condition" not in str(error).lower():
                    raise
            try:
                fs.invalidate_cache(path)
                held, info = fs.cat_file(path), fs.info(path)
            except FileNotFoundError:
                return False  # just released: retry
            if held == me:
                return True
            if (datetime.now(UTC) - changed(info)).total_seconds() > LEASE_SECONDS:
                fs.rm_file(path)
            return False

    def _key_in(self, path: str) -> str:
        """Reads a manifest's key from a small file; empty where the file is missing or damaged."""
        with self._store.faults():
            try:
                raw = self._store.fs.cat_file(path)
            except (FileNotFoundError, IsADirectoryError):
                return ""
        if not _KEY.fullmatch(raw):
            log.warning("store.file_damaged", path=path, hint="treated as missing")
            return ""
        return str(raw, "ascii")

    def _candidates_folder(self, question: str) -> str:
        return self._path("results", question)

    def _task_path(self, dag_id: str, task_id: str, function: str) -> str:
        digest = hashlib.sha256(f"{dag_id}\n{task_id}\n{function}".encode()).hexdigest()
        return self._path("tasks", digest)

    def _path(self, part: str, digest: str) -> str:
        return f"{self._store.root}/{part}/{digest[:2]}/{digest}"
