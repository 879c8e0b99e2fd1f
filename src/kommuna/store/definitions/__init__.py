"""Determines the definitions that a step reaches in a team's bundle, as one digest, from source alone.

`files` finds modules, `loading` simulates importing them, `purity` decides which of their statements only bind names,
`references` reads one statement, `reach` follows names, `traces` records what was read. No code of a team is imported.
If something cannot be determined, a sentence says why, and the caller compares whole files.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import hashlib
import json
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kommuna.store.definitions.files import BundleFiles, Unclear
from kommuna.store.definitions.loading import Loader
from kommuna.store.definitions.reach import Counted, LoadsLate, Reach, Target
from kommuna.store.definitions.references import text
from kommuna.store.definitions.traces import Trace, read_file, readings

_FORMAT = 1  # increase it when the meaning of a digest changes


@dataclass(frozen=True)
class Definitions:
    """The definitions that a step reaches in a bundle.

    Attributes:
        digest: covers every statement that the entry points reach or that runs at import.
        modules: dotted names of all bundle modules that importing and calling the entry points may load.
        unclear: why the definitions cannot be determined ("helpers.py:12 uses globals"); empty if they can.
        parts: digests of the statements in each module, by path.
    """

    digest: str
    modules: frozenset[str]
    unclear: str
    parts: Mapping[str, str] = field(default_factory=dict)


def definitions(entry_points: Iterable[str], bundle: Path, *, libraries: Collection[str]) -> Definitions:
    """Determines the definitions that steps and Python rules reach in a bundle.

    Docstrings, comments, layout, functions that nothing reaches, unused imports and the order of definitions do not
    count. Every statement that has an effect when a module is imported counts, with everything that it refers to.

    Args:
        entry_points: `module:function`, or `module:*` for everything in a module; in the order in which their
            modules are imported. Those that are not in the bundle count only by name.
        bundle: the team's folder, the first entry of `sys.path`.
        libraries: top-level names of installed distributions that are loaded anyway; importing them has no effect.
    """
    with _without_collecting():
        return _definitions(list(dict.fromkeys(entry_points)), BundleFiles(bundle, libraries))[0]


def traced(entry_points: Iterable[str], files: BundleFiles) -> tuple[Definitions, Trace | None]:
    """Determines definitions as `definitions` does, with a trace of what they depend on; None if they are unclear.

    Args:
        entry_points: addresses such as `module:function`.
        files: the bundle.
    """
    with _without_collecting():
        found, passes = _definitions(list(dict.fromkeys(entry_points)), files)
        return found, None if found.unclear else _trace(found, files, passes)


def from_trace(trace: Trace) -> Definitions:
    """Returns the definitions that a traced analysis found."""
    return Definitions(trace.digest, frozenset(trace.modules), "", trace.parts)


@contextlib.contextmanager
def _without_collecting() -> Iterator[None]:
    """Disables garbage collection: scanning the many long-lived syntax trees took a third of the time."""
    collected = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collected:
            gc.enable()


def _trace(found: Definitions, files: BundleFiles, passes: list[tuple[Loader, Reach]]) -> Trace | None:
    """Returns the trace of everything that the passes read."""
    whole: set[int] = set()
    without_docstring: set[int] = set()
    for loader, reach in passes:
        whole |= {id(act.node) for act in loader.acts}
        for (module, index), counted in reach.definitions.items():
            name = getattr(counted.node, "name", "")
            node = loader.modules[module].statements[index]
            (whole if ("definition", module, name) in reach.values else without_docstring).add(id(node))
    try:
        read = {
            path: read_file(files, path, readings(tree, whole, without_docstring)) for path, tree in files.trees.items()
        }
    except RecursionError:
        return None
    return Trace(
        digest=found.digest,
        modules=tuple(sorted(found.modules)),
        parts=dict(found.parts),
        files={path: one for path, one in read.items() if one is not None},
        found=files.found,
    )


def _definitions(names: list[str], files: BundleFiles) -> tuple[Definitions, list[tuple[Loader, Reach]]]:
    passes: list[tuple[Loader, Reach]] = []
    for uncertain in (False, True):
        loader = Loader(files, uncertain=uncertain)
        reach = Reach(files, loader, late_allowed=uncertain)
        passes.append((loader, reach))
        try:
            entries = _follow(names, files, loader, reach)
        except LoadsLate:
            continue
        except Unclear as error:
            return Definitions(_digest([names, str(error)]), frozenset(loader.modules), str(error)), passes
        except RecursionError:
            deep = "the bundle's code is nested too deeply"
            return Definitions(_digest(names), frozenset(loader.modules), deep), passes
        unclear = min(reach.unclear, default="")
        document = _document(reach, loader, entries)
        return Definitions(_digest(document), frozenset(loader.modules), unclear, _parts(document, loader)), passes
    raise AssertionError("an uncertain loader never loads late")


def _follow(names: list[str], files: BundleFiles, loader: Loader, reach: Reach) -> list[tuple[str, list[Target]]]:
    inside = [name for name in names if files.find(name.partition(":")[0]) is not None]
    for index, name in enumerate(inside):
        loader.load(name.partition(":")[0], uncertain=index > 0)
    reach.start()
    reach.follow()
    reach.allow_late()
    entries: list[tuple[str, list[Target]]] = []
    for name in names:
        module, _, function = name.partition(":")
        targets: set[Target] = set()
        if name in inside and function == "*":
            reach.whole(loader.modules[module])
        elif name in inside:
            targets = reach.attribute(module, function.partition(".")[0])
            if not targets or any(target[0] != "definition" for target in targets):
                raise Unclear(f"{loader.modules[module].path} does not define {function}")
        entries.append((name, sorted(targets)))
    reach.follow()
    return entries


def _document(reach: Reach, loader: Loader, entries: list[tuple[str, list[Target]]]) -> list[Any]:
    """Returns everything that counts, in an order that does not depend on how it was found."""
    for module, name in loader.observed:
        for binding in loader.modules[module].bindings.get(name, ()):
            reach.places.add((binding.position, module, name))
    acts: list[Any] = []
    for act, counted in reach.acts:
        content = [text(counted.node, docstrings=True), _meanings(counted)] if counted else []
        acts.append([act.module, act.note, *content])
    acting = {(act.module, act.statement) for act, _ in reach.acts}
    reached = [[c.module, _text(reach, c, key in acting), _meanings(c)] for key, c in reach.definitions.items()]
    return [entries, acts, sorted(reach.places), sorted(reached), sorted(reach.futures)]


def _parts(document: list[Any], loader: Loader) -> dict[str, str]:
    """Returns a digest of the statements that count in each module, by path."""
    _, acts, _, reached, _ = document
    found: dict[str, list[Any]] = {name: [] for name in loader.modules}
    for module, *content in (*acts, *reached):
        found[module].append(content)
    return {loader.modules[name].path: _digest(contents) for name, contents in found.items()}


def _text(reach: Reach, counted: Counted, acts: bool) -> str:
    """Returns the text of a definition, without its docstring unless some code may read it."""
    node = counted.node
    if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return text(node, docstrings=True)
    handed_on = ("definition", counted.module, node.name) in reach.values
    return text(node, docstrings=acts or handed_on, kept=reach.value_attributes)


def _meanings(counted: Counted | None) -> list[Any]:
    return sorted([list(chain), targets] for chain, targets in counted.meanings.items()) if counted else []


def _digest(document: list[Any]) -> str:
    return hashlib.sha256(json.dumps([_FORMAT, document]).encode("utf-8", "surrogatepass")).hexdigest()
