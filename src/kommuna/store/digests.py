"""SHA-256 of files."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import IO

from kommuna.spec.step import NO_INPUT

NONE = NO_INPUT  # instead of a digest
_CHUNK = 1 << 20


def file_digest(path: Path) -> str:
    """Returns the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return content_digest(file)


def content_digest(file: IO[bytes]) -> str:
    """Returns the SHA-256 of the rest of an open file in hexadecimal."""
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()
