"""SHA-256 of files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import IO

NONE = "none"  # in the place of a digest: an optional input that is absent
_CHUNK = 1 << 20


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return content_digest(file)


def content_digest(file: IO[bytes]) -> str:
    """SHA-256 of what an open file still has, in hexadecimal."""
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
