"""Describes the differences between two runs of a step."""

from __future__ import annotations

from collections.abc import Iterator

from kommuna.spec.words import shown
from kommuna.store.manifest import Manifest
from kommuna.store.question import differences
from kommuna.store.uses import Uses


def between(first: Manifest, second: Manifest) -> Iterator[str]:
    """Describes what differs between two runs, and why the result of either cannot be reused.

    Manifests of older versions of Kommuna lack this information; then only that is reported.
    """
    if first.question is None or second.question is None:
        yield "one of them was made by an older version of Kommuna, which did not record what a step uses"
        return
    yield from differences(first.question, second.question)
    if first.uses is not None and second.uses is not None:
        yield from _uses(first.uses, second.uses)
    for manifest in dict.fromkeys((first.key, second.key)):
        one = first if manifest == first.key else second
        yield from (f"{manifest[:12]}: {reason}" for reason in not_given(one))
        if one.expires is not None:
            yield f"{manifest[:12]} cannot be reused after {one.expires:%Y-%m-%d %H:%M} UTC"


def not_given(manifest: Manifest) -> Iterator[str]:
    """Explains why the result of a run cannot be reused."""
    if manifest.uses is None:
        yield "it was run by hand"
    elif not manifest.cacheable:
        yield "the step has cacheable=False, or the task has cache=False"
    else:
        yield from manifest.uses.unknown


def _uses(first: Uses, second: Uses) -> Iterator[str]:
    paths = [path for path in _all(first.files, second.files) if first.files.get(path) != second.files.get(path)]
    if first.reached is not None and second.reached is not None:
        paths = first.reached.which_count(paths, second.reached.digest, second.reached.parts)
    for path in paths:
        alone = path not in first.files or path not in second.files
        yield f"{path} is used by only one of them" if alone else f"{path} changed"
    for name in _all(first.libraries, second.libraries):
        old, new = first.libraries.get(name), second.libraries.get(name)
        if old != new:
            yield f"{name} {old or 'not used'} → {new or 'not used'}"
    for what, before, now in (
        ("services", first.services, second.services),
        ("context", first.context, second.context),
    ):
        for name in _all(before, now):
            if before.get(name) != now.get(name):
                yield f"{what}.{name}: {shown(before.get(name))} → {shown(now.get(name))}"
    for name in _all(first.variables, second.variables):
        if first.variables.get(name) != second.variables.get(name):
            yield f"the environment variable {name}"
    for name in _all(first.bytes, second.bytes):
        if first.bytes.get(name) != second.bytes.get(name):
            yield f"the bytes of input '{name}', which the step reads by itself"


def _all(first: dict[str, str], second: dict[str, str]) -> list[str]:
    return list(dict.fromkeys([*first, *second]))
