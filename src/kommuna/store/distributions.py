"""Installed distributions: their versions, and which of them a file or an import belongs to."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from kommuna.spec.versions import VERSIONS

SHARED_STEPS = "kommuna.steps"  # represents the versions of all shared steps, for code that calls them itself


@functools.cache
def installed() -> Mapping[str, str]:
    """Returns the version of every distribution, by normalised name; of two copies, the one that is imported."""
    found = {SHARED_STEPS: hashlib.sha256(json.dumps(VERSIONS, sort_keys=True).encode()).hexdigest()[:12]}
    for folder in library_folders():
        for stem in _metadata_folders(folder):
            name, version = stem.split("-")[:2]
            found.setdefault(normalised(name), version)
    return found


def normalised(distribution: str) -> str:
    """Normalises a distribution's name for comparison (PEP 503)."""
    return distribution.replace("_", "-").replace(".", "-").lower()


def distributions_of(opened: Collection[str], imported: Collection[str]) -> tuple[set[str], set[str]]:
    """Finds the distributions whose files were opened, or which are imported by a top-level name.

    Args:
        opened: absolute paths below Python's folders.
        imported: top-level names such as `sklearn`; names outside all distributions are ignored.

    Returns:
        The distributions' normalised names, and the paths in library folders that belong to none of them.
    """
    found: set[str] = set()
    unclaimed: set[str] = set()
    for folder in library_folders():
        below = [path.removeprefix(f"{folder}/") for path in opened if path.startswith(f"{folder}/")]
        if not below and not imported:
            continue
        owners = _owners(folder)
        for path in below:
            top, _, rest = path.partition("/")
            stem, suffix = os.path.splitext(top)  # noqa: PTH122
            if suffix in (".dist-info", ".egg-info"):
                if rest in ("METADATA", "PKG-INFO"):  # the others are read to find plugins, of all distributions
                    found.add(normalised(stem.split("-")[0]))
            elif top in owners:
                found |= owners[top]
            elif rest or top.endswith((".py", ".so")):
                unclaimed.add(f"{folder}/{path}")
        for name in imported:
            found |= owners.get(name, owners.get(f"{name}.py", frozenset()))
    return found, unclaimed


@functools.cache
def library_folders() -> tuple[str, ...]:
    """Returns the folders on the import path that installers put libraries into."""
    names = ("site-packages", "dist-packages")
    return tuple(dict.fromkeys(path.rstrip("/") for path in sys.path if os.path.basename(path.rstrip("/")) in names))  # noqa: PTH119


def _metadata_folders(folder: str) -> list[str]:
    """Returns `name-version` of every distribution in a folder."""
    try:
        split = [os.path.splitext(name) for name in os.listdir(folder)]  # noqa: PTH208, PTH122
    except OSError:
        return []
    return [stem for stem, suffix in split if suffix in (".dist-info", ".egg-info") and "-" in stem]


@functools.cache
def _owners(folder: str) -> Mapping[str, frozenset[str]]:
    """Returns the distributions that own each top-level file or folder in a library folder."""
    owners: dict[str, set[str]] = {}
    for stem in _metadata_folders(folder):
        record = Path(folder, f"{stem}.dist-info", "RECORD")
        try:
            lines = record.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            continue
        for top in {line.split("/", 1)[0].split(",", 1)[0].strip('"') for line in lines}:
            owners.setdefault(top, set()).add(normalised(stem.split("-")[0]))
    return {top: frozenset(names) for top, names in owners.items()}
