"""`TeamFiles`: one team's part of an fsspec file system, with the inbox and the folders of steps at work."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import socket
import tempfile
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kommuna.errors import StoreError, TeamMistake
from kommuna.outages import is_outage
from kommuna.spec.step import StoreAddress
from kommuna.store.faults import store_error

DRIVERS = ("aiobotocore", "aiohttp", "botocore")  # top-level modules of S3 drivers, which raise their own errors


class TeamFiles:
    """The files below one team's prefix.

    Args:
        address: `file://` or any other fsspec URL, with the file system's options.
        team: the team.

    Attributes:
        fs: fsspec's file system.
        root: the path of the team's prefix on it.
        is_local: whether it is a folder of this machine.
    """

    def __init__(self, address: StoreAddress, team: str) -> None:
        import fsspec

        self.address = address
        self.team = team
        try:
            fs, root = fsspec.core.url_to_fs(address.url, **address.options)
        except Exception as error:  # any of fsspec's file systems, whose errors have no common base class
            if is_outage(error):
                raise store_error(error, address.url) from None
            raise StoreError(
                f"the store's URL '{address.url}' cannot be used: {error}", fix="see `store` in kommuna.yaml"
            ) from None
        self.fs: Any = fs
        self.root = f"{root.rstrip('/')}/{team}"
        self.is_local = "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)

    def __repr__(self) -> str:
        return f"Store({self.address.url!r}, {self.team!r})"

    def write(self, path: str, raw: bytes) -> None:
        """Writes a small file below the team's prefix, atomically.

        Args:
            path: a path from the root of the file system, below `root`.
            raw: the content.
        """
        with self.faults():
            if not self.is_local:
                self.fs.pipe_file(path, raw)
                return
            target = Path(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
            try:
                with partial.open("wb") as file:
                    file.write(raw)
                    file.flush()
                    os.fsync(file.fileno())
                partial.replace(target)
            finally:
                partial.unlink(missing_ok=True)

    def find(self, part: str) -> list[str]:
        """Returns the paths of all files in a folder below the prefix; none if there is no such folder."""
        with self.faults():
            try:
                return [str(path) for path in self.fs.find(f"{self.root}/{part}")]
            except FileNotFoundError:
                return []

    def put_inbox(self, path: Path, relative: str) -> None:
        """Copies a local file below the team's prefix, where steps read it as `store://<relative>`.

        Args:
            path: the local file, which remains.
            relative: the path below the team's prefix, such as `inbox/messages.csv`.

        Raises:
            TeamMistake: the path leaves the team's prefix.
        """
        target = f"{self.root}/{_within(relative)}"
        with self.faults():
            if self.is_local:  # an object store has no folders; s3fs would create the bucket, which a team may not
                Path(target).parent.mkdir(parents=True, exist_ok=True)
            self.fs.put_file(str(path), f"{target}.partial")
            self.fs.mv(f"{target}.partial", target)

    def inbox_file(self, relative: str, folder: Path) -> Path:
        """Returns a local path of a file that people or other systems put below the team's prefix.

        Args:
            relative: for example `inbox/messages.csv`.
            folder: where a remote file is downloaded to.

        Raises:
            TeamMistake: the path leaves the team's prefix.
        """
        source = f"{self.root}/{_within(relative)}"
        if self.is_local:
            path = Path(source)
            if path.exists() and not path.resolve().is_relative_to(Path(self.root).resolve()):
                raise TeamMistake(
                    f"'store://{relative}' leaves the team's part of the store", fix="put the file there, not a link"
                )
            return path
        name = source.rpartition("/")[2]
        target = folder / f"{hashlib.sha256(source.encode()).hexdigest()[:12]}-{name}"
        with self.faults(), contextlib.suppress(FileNotFoundError):
            self.fs.get_file(source, str(target))
        return target

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Creates a work folder, next to the artifacts if the store is local, so that `put` is a rename.

        It is removed at the end. Folders of killed processes are removed by the next step on the same host.
        """
        if not self.is_local:
            with tempfile.TemporaryDirectory(prefix="kommuna-") as folder:
                yield Path(folder)
            return
        parent = Path(self.root) / "tmp"
        with self.faults():
            self.sweep()
            path = parent / f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
            path.mkdir(parents=True)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def sweep(self) -> None:
        """Removes the work folders of processes of this host that have ended."""
        parent = Path(self.root) / "tmp"
        if not self.is_local or not parent.is_dir():
            return
        host = socket.gethostname()
        for path in parent.iterdir():
            owner, _, rest = path.name.rpartition("-")[0].rpartition("-")
            if owner == host and rest.isdigit() and not Path(f"/proc/{rest}").exists():
                shutil.rmtree(path, ignore_errors=True)

    @contextlib.contextmanager
    def faults(self) -> Iterator[None]:
        """Converts errors of the file system to store errors."""
        try:
            yield
        except StoreError:
            raise
        except OSError as error:
            raise store_error(error, self.address.url) from error
        except Exception as error:  # errors of botocore and other drivers have no common base class
            if type(error).__module__.partition(".")[0] in DRIVERS:
                raise store_error(error, self.address.url) from error
            raise


def changed(info: dict[str, Any]) -> datetime:
    """Returns when a file was last written; the current time where the file system does not record it."""
    changed = info.get("mtime") or info.get("LastModified") or info.get("created")
    if isinstance(changed, datetime):
        return changed if changed.tzinfo else changed.replace(tzinfo=UTC)
    return datetime.fromtimestamp(changed, UTC) if changed else datetime.now(UTC)


def _within(relative: str) -> str:
    """Returns a path after checking that it stays below the team's prefix.

    Raises:
        TeamMistake: the path leaves the prefix, or has characters that are not printable.
    """
    if not relative.isprintable():
        raise TeamMistake(f"{relative!a} contains characters that are not printable", fix="give the file another name")
    if any(part in ("", ".", "..") for part in relative.split("/")):
        raise TeamMistake(f"'store://{relative}' leaves the team's part of the store", fix="write store://inbox/FILE")
    return relative
