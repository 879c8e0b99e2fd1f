"""`SharedFolder`, `SealedFolder`: small files that the runs of a team share, in the team's part of the store."""

from __future__ import annotations

import hashlib
import os
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import structlog

from kommuna.errors import StoreError, StoreUnreachable
from kommuna.outages import is_outage
from kommuna.spec.step import StoreAddress

log = structlog.get_logger()

_STALE_SECONDS = 60
_SEAL_BYTES = 32


class SharedFolder:
    """A folder in the store whose files are written atomically: readers never see a partial file.

    Every call raises StoreError if the store cannot be read or written.

    Args:
        address: the root of what the team's runs share.
        below: the folder's path below the root.
        what: what the files contain, for messages: `answers`.
    """

    def __init__(self, address: StoreAddress, below: str, *, what: str) -> None:
        self._address = address
        self._below = below
        self._what = what

    def write(self, name: str, raw: bytes) -> None:
        """Writes or replaces a file; it is durable when the call returns."""
        with self._faults():
            fs, folder = self._open()
            if not _is_local(fs):
                fs.pipe_file(f"{folder}/{name}", raw)
                return
            target = Path(folder, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f"{name}.{uuid.uuid4().hex}.part")
            with partial.open("wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)

    def read(self, names: Sequence[str]) -> dict[str, bytes]:
        """Returns the content of the files that exist, by name."""
        if not names:
            return {}
        with self._faults():
            fs, folder = self._open()
            found = fs.cat([f"{folder}/{name}" for name in names], on_error="return")
            there: dict[str, bytes] = {}
            for path, raw in found.items():
                if isinstance(raw, bytes):
                    there[path.rsplit("/", 1)[1]] = raw
                elif not isinstance(raw, FileNotFoundError):
                    raise raw
            return there

    def names(self, *, ending: str) -> list[str]:
        """Returns the names of the files with an ending, sorted."""
        with self._faults():
            fs, folder = self._open()
            fs.invalidate_cache(folder)
            try:
                paths = [str(path) for path in fs.ls(folder, detail=False)]
            except FileNotFoundError:
                return []
            return sorted(path.rsplit("/", 1)[1] for path in paths if path.endswith(ending))

    def remove(self, names: Sequence[str]) -> None:
        """Removes files, and partial files of killed runs; files that do not exist are ignored."""
        with self._faults():
            fs, folder = self._open()
            for name in names:
                with suppress(FileNotFoundError):
                    fs.rm_file(f"{folder}/{name}")
            for path in Path(folder).glob("*.part") if _is_local(fs) else ():
                with suppress(FileNotFoundError):
                    if time.time() - path.stat().st_mtime > _STALE_SECONDS:  # a younger file may belong to another run
                        path.unlink()

    def _open(self) -> tuple[Any, str]:
        import fsspec

        fs, root = fsspec.core.url_to_fs(self._address.url, **self._address.options)
        return fs, f"{root.rstrip('/')}/{self._below}"

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # the drivers' errors have no common base class
            kind = StoreUnreachable if is_outage(error) else StoreError
            raise kind(
                f"the stored {self._what} cannot be read or written: {type(error).__name__}: {error}",
                where=f"{self._address.url.rstrip('/')}/{self._below}",
                fix="check the store; what is stored there is safe",
            ) from error


class SealedFolder(SharedFolder):
    """A shared folder whose files end in a checksum: what is read is what was written.

    A damaged file is set aside under another name, with a warning, and counts as missing: for files whose content can
    be made again.

    Attributes:
        damaged: the number of files that were set aside.
    """

    damaged = 0

    def write(self, name: str, raw: bytes) -> None:
        """Writes or replaces a file; it is durable when the call returns."""
        super().write(name, raw + _seal(raw))

    def read(self, names: Sequence[str]) -> dict[str, bytes]:
        """Returns the content of the files that exist and are intact, by name."""
        intact: dict[str, bytes] = {}
        for name, sealed in super().read(names).items():
            raw = sealed[:-_SEAL_BYTES]
            if sealed[-_SEAL_BYTES:] == _seal(raw):
                intact[name] = raw
                continue
            self.damaged += 1
            log.warning("shared_folder.damaged", what=self._what, file=name, kept_as=f"{name}.damaged")
            super().write(f"{name}.damaged", sealed)
            self.remove([name])
        return intact


def _seal(raw: bytes) -> bytes:
    return hashlib.blake2b(raw, digest_size=_SEAL_BYTES).digest()


def _is_local(fs: Any) -> bool:
    return "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)
