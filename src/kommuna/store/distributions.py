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

SHARED_STEPS = "kommuna.steps"  # stands for the versions of all shared steps, for code that calls them itself


@functools.cache
def installed() -> Mapping[str, str]:
    """Every distribution's version, by its normalised name; of two that are installed, the one that is imported."""
    found = {SHARED_STEPS: hashlib.sha256(json.dumps(VERSIONS, sort_keys=True).encode()).hexdigest()[:12]}
    for folder in library_folders():
        for stem in _metadata_folders(folder):
            name, version = stem.split("-")[:2]
            found.setdefault(normalised(name), version)
    return found


def normalised(distribution: str) -> str:
    """A distribution's name as names are compared (PEP 503)."""
    return distribution.replace("_", "-").replace(".", "-").lower()


def distributions_of(opened: Collection[str], imported: Collection[str]) -> tuple[set[str], set[str]]:
    """Distributions whose files were opened, or which are imported by a top-level name.

    Args:
        opened: absolute paths below Python's folders.
        imported: names such as `sklearn`; those of no distribution are passed over.

    Returns:
        The distributions' normalised names, and the paths in a folder of libraries that none of them claims.
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
    """Folders on the import path that installers put libraries into."""
    names = ("site-packages", "dist-packages")
    return tuple(dict.fromkeys(path.rstrip("/") for path in sys.path if os.path.basename(path.rstrip("/")) in names))  # noqa: PTH119


def _metadata_folders(folder: str) -> list[str]:
    """`name-version` of every distribution in a folder."""
    try:
        split = [os.path.splitext(name) for name in os.listdir(folder)]  # noqa: PTH208, PTH122
    except OSError:
        return []
    return [stem for stem, suffix in split if suffix in (".dist-info", ".egg-info") and "-" in stem]


@functools.cache
def _owners(folder: str) -> Mapping[str, frozenset[str]]:
    """Top file or folder in a folder of libraries to the distributions that put something there."""
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
