"""Ships a bundle to the parser: the processor packs it, the parser unpacks it once per version.

The parser fetches nothing by itself, so it needs neither a Git credential nor network access out of its namespace.
"""

from __future__ import annotations

import copy
import hashlib
import io
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

from kommuna.airflow.isolation.wire import MAX_BUNDLE, MIB
from kommuna.errors import DataError, PlatformFault

MAX_FILES = 20_000
_VERSION = re.compile(r"^[A-Za-z0-9._\-]{1,100}$")
_LEFT_OUT = {".git", "__pycache__"}


def digest_of(folder: Path) -> str:
    """Computes a version for a folder that has none. It changes with any file's name, size or modification time."""
    digest = hashlib.sha256()
    for path in _files(folder):
        status = path.lstat()
        digest.update(f"{path.relative_to(folder)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
    return f"folder-{digest.hexdigest()[:32]}"


def pack_folder(folder: Path) -> bytes:
    """Packs a folder as a tar.

    Raises:
        DataError: it is larger than a bundle may be.
    """
    buffer = io.BytesIO()
    total = 0
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for count, path in enumerate(_files(folder), 1):
            total += path.lstat().st_size
            if count > MAX_FILES or total > MAX_BUNDLE:
                raise _too_large(folder)
            archive.add(path, arcname=str(path.relative_to(folder)), recursive=False)
    return _bounded(buffer.getvalue(), folder)


def pack_commit(repository: Path, commit: str, *, below: str = "") -> bytes:
    """Packs a commit's tree, or a folder of it, as a tar, whatever is checked out.

    Args:
        repository: the folder of a clone.
        commit: the commit's hash.
        below: the folder within the tree that becomes the tar's root; empty for the whole tree.

    Raises:
        DataError: it is larger than a bundle may be.
        PlatformFault: `git archive` fails.
    """
    tree = f"{commit}:{below.strip('/')}" if below.strip("/") else commit
    done = subprocess.run(
        ["git", "-C", str(repository), "archive", "--format=tar", tree], capture_output=True, check=False, timeout=60
    )
    if done.returncode:
        raise PlatformFault(f"git cannot pack {tree}: {done.stderr.decode(errors='replace').strip()[-300:]}")
    return _bounded(done.stdout, repository)


def unpack(archive: bytes, versions: Path, version: str) -> Path:
    """Unpacks a bundle into the folder of its version. Nothing is written outside of it.

    Links that lead out of the bundle are skipped, and so are devices.

    Args:
        archive: an uncompressed tar.
        versions: the folder with a folder per version.
        version: the bundle's version. If its folder exists, nothing is unpacked.

    Raises:
        DataError: it is not a tar, or it unpacks to more than a bundle may be.
    """
    target = folder_of(versions, version)
    if target.is_dir():
        return target
    versions.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=versions, prefix=".unpacking-"))
    try:
        with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
            members = tar.getmembers()
            if len(members) > 2 * MAX_FILES or sum(member.size for member in members) > MAX_BUNDLE:
                raise _too_large(target)
            for member in members:
                if (checked := _inside(member, scratch)) is not None:
                    tar.extract(checked, scratch)
        scratch.chmod(0o755)
        scratch.rename(target)
    except tarfile.TarError as error:
        raise DataError(f"the bundle cannot be unpacked: {error}", where=version) from None
    except OSError:
        if not target.is_dir():  # otherwise another connection was faster
            raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def folder_of(versions: Path, version: str) -> Path:
    """Returns the folder that a version is unpacked to.

    Args:
        versions: the folder with a folder per version.
        version: the bundle's version, which is not trusted.

    Raises:
        DataError: it is not a valid version.
    """
    if not _VERSION.match(version) or version.startswith("."):
        raise DataError(f"'{version[:100]}' is not a version of a bundle")
    return versions / version


def forget_old(versions: Path, *, keep: int, in_use: set[str]) -> None:
    """Removes all versions except the newest and those in use.

    Args:
        versions: the folder with a folder per version.
        keep: how many of the newest remain.
        in_use: versions that remain whatever their age.
    """
    folders = [entry for entry in versions.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    for entry in sorted(folders, key=lambda folder: folder.stat().st_mtime, reverse=True)[keep:]:
        if entry.name not in in_use:
            shutil.rmtree(entry, ignore_errors=True)


def _inside(member: tarfile.TarInfo, folder: Path) -> tarfile.TarInfo | None:
    """Returns a member that is safe to unpack; None for links that lead out of the folder, and for devices.

    It does what `tarfile.data_filter` does, which Python only has from 3.11.4 on.
    """
    root = Path(os.path.realpath(folder))
    place = Path(os.path.realpath(root / member.name))
    if Path(member.name).is_absolute() or not place.is_relative_to(root):
        raise tarfile.ExtractError(f"'{member.name}' leads out of it")
    if member.issym() or member.islnk():
        start = (root / member.name).parent if member.issym() else root
        target = Path(os.path.realpath(start / member.linkname))
        if Path(member.linkname).is_absolute() or not target.is_relative_to(root):
            return None
    elif not (member.isreg() or member.isdir()):
        return None
    checked = copy.copy(member)
    checked.mode = 0o755 if member.isdir() else (member.mode & 0o755) | 0o644
    return checked


def _files(folder: Path) -> Iterator[Path]:
    """Yields the files and links below a folder, in order. Links are not followed."""
    for here, folders, names in os.walk(folder):
        links = [name for name in folders if Path(here, name).is_symlink()]
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT and name not in links)
        for name in sorted([*names, *links]):
            path = Path(here, name)
            if path.is_symlink() or path.is_file():
                yield path


def _bounded(archive: bytes, where: Path) -> bytes:
    if len(archive) > MAX_BUNDLE:
        raise _too_large(where)
    return archive


def _too_large(where: Path) -> DataError:
    return DataError(
        f"the bundle has more than {MAX_BUNDLE // MIB} MiB or {MAX_FILES} files",
        where=where.name,
        fix="keep data out of it: tables and models belong in the store",
    )
