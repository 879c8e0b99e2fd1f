"""`Analyses`: cached analyses of which definitions steps reach in a team's bundle.

```
<store>/<team>/analyses/<ab>/<digest>   the last outcomes for the same entry points and libraries
```
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from pydantic import TypeAdapter, ValidationError

from kommuna.errors import StoreError
from kommuna.store import definitions as room
from kommuna.store.definitions import Definitions, from_trace, traced
from kommuna.store.definitions.files import BundleFiles
from kommuna.store.definitions.traces import Trace
from kommuna.store.digests import file_digest

if TYPE_CHECKING:
    from kommuna.store.store import Store

log = structlog.get_logger()

MOST_TRACES = 4  # per set of entry points: for example two deployments, each before and after an edit
_TRACES = TypeAdapter(list[Trace])


class Analyses:
    """The cached analyses in a team's part of the store. A lost or damaged one is computed again."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def definitions(
        self,
        entry_points: tuple[str, ...],
        libraries: tuple[str, ...],
        bundle: Path,
        digest: Callable[[str], str] | None = None,
    ) -> Definitions:
        """Returns the definitions that entry points reach in a bundle.

        Args:
            entry_points: `module:function` of each.
            libraries: top-level names of the loaded libraries.
            bundle: the team's folder.
            digest: returns the SHA-256 of a file of the bundle, if the caller already has it.
        """
        path = self.path(entry_points, libraries)
        files = BundleFiles(bundle, libraries)
        traces = self._read(path)
        for known in traces:
            now = known.now(files, digest or functools.partial(_digest, bundle))
            if now is not None:
                if now is not known:
                    self._write(path, [now, *traces])
                return from_trace(now)
        found, trace = traced(entry_points, files)
        if trace is not None:
            self._write(path, [trace, *traces])
        return found

    def path(self, entry_points: tuple[str, ...], libraries: tuple[str, ...]) -> str:
        """Returns the path of analyses for the same arguments, code and Python version."""
        arguments = json.dumps([entry_points, libraries, sys.version, _code()])
        digest = hashlib.sha256(arguments.encode("utf-8", "surrogatepass")).hexdigest()
        return f"{self._store.root}/analyses/{digest[:2]}/{digest}"

    def forget_all_but(self, paths: Collection[str]) -> None:
        """Removes all cached analyses except those at the given paths."""
        store = self._store
        with store.faults():
            try:
                found = [str(path) for path in store.fs.find(f"{store.root}/analyses")]
            except FileNotFoundError:
                return
            for path in found:
                if path not in paths:
                    with contextlib.suppress(FileNotFoundError):
                        store.fs.rm_file(path)

    def _read(self, path: str) -> list[Trace]:
        try:
            with self._store.faults(), contextlib.suppress(FileNotFoundError):
                return _TRACES.validate_json(self._store.fs.cat_file(path))
        except ValidationError:
            log.warning("store.file_damaged", path=path, hint="treated as missing")
        except StoreError as error:
            log.warning("analysis.not_remembered", reason=error.what)
        return []

    def _write(self, path: str, traces: list[Trace]) -> None:
        try:
            self._store.write(path, _TRACES.dump_json(traces[:MOST_TRACES]))
        except StoreError as error:
            log.warning("analysis.not_remembered", reason=error.what)


def _digest(bundle: Path, name: str) -> str:
    try:
        return file_digest(bundle / name)
    except OSError:
        return ""


@functools.cache
def _code() -> str:
    """Returns a digest of the analysis code, so that results of other versions are not used."""
    paths = sorted(Path(room.__file__).parent.glob("*.py"))
    return hashlib.sha256("".join(map(file_digest, paths)).encode()).hexdigest()
