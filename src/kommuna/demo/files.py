"""Writes a folder of files together: either all files are replaced, or none."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kommuna.errors import SpecError


@contextmanager
def write_together(folder: Path) -> Iterator[Path]:
    """Yields a draft folder, whose files are moved to `folder` if the block ends without an error.

    Args:
        folder: created if it is missing; files with other names are kept.

    Raises:
        SpecError: `folder` is a file, or cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder))
    except (FileExistsError, NotADirectoryError):
        raise SpecError(f"{folder} is a file, not a folder", fix="name a folder for the data") from None
    except OSError as error:
        raise SpecError(
            f"cannot write to {folder}: {error.strerror}", fix="name a folder that you may write to"
        ) from None
    try:
        yield draft
        for file in sorted(path for path in draft.rglob("*") if path.is_file()):
            target = folder / file.relative_to(draft)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
