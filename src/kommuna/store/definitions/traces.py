"""Traces: the parts of a bundle that an analysis read. While they are unchanged, its outcome is still valid."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable, Collection

from pydantic import Field

from kommuna.spec.base import Spec
from kommuna.store.definitions.files import BundleFiles, Unclear
from kommuna.store.definitions.references import bound_names, head, is_string, text

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
WHOLE, NO_DOCSTRING, HEAD = "w", "s", "h"  # how a statement was read: all, without docstring, without function bodies


class ReadFile(Spec):
    """The parts of a module's source that were read."""

    digest: str = Field(description="SHA-256 of its bytes.")
    readings: str = Field(description="How each of its top-level statements was read, one letter per statement.")
    outline: str = Field(
        description="Digest of the parts that were read; comments, layout and unread parts do not affect it."
    )


class Trace(Spec):
    """The outcome of an analysis, and everything that it depends on apart from its arguments."""

    digest: str
    modules: tuple[str, ...]
    parts: dict[str, str]
    files: dict[str, ReadFile]
    found: dict[str, str | None] = Field(description="Each module that was searched for, and its path.")

    def now(self, files: BundleFiles, digest: Callable[[str], str]) -> Trace | None:
        """Returns the trace with the present digests; None if an analysis would now read something else.

        Args:
            files: the present bundle.
            digest: returns the SHA-256 of a file of the bundle, or any other text if there is none.
        """
        try:
            if any(files.find(name) != path for name, path in self.found.items()):
                return None
            changed = [path for path, read in self.files.items() if digest(path) != read.digest]
            present = {path: read_file(files, path, self.files[path].readings) for path in changed}
        except (Unclear, RecursionError):
            return None
        if any(read is None or read.outline != self.files[path].outline for path, read in present.items()):
            return None
        return self.model_copy(update={"files": {**self.files, **present}}) if changed else self


def read_file(files: BundleFiles, path: str, readings: str) -> ReadFile | None:
    """Reads a module's statements in the given ways; None if their number differs.

    Args:
        files: the bundle.
        path: the module's path in it.
        readings: a letter per top-level statement: `WHOLE`, `NO_DOCSTRING` or `HEAD`.
    """
    tree = files.parse(path)
    body = _statements(tree)
    if len(body) != len(readings):
        return None
    content = "\n".join(_read(node, how) for node, how in zip(body, readings, strict=True))
    outline = hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()
    return ReadFile(digest=files.digests[path], readings=readings, outline=outline)


def readings(tree: ast.Module, whole: Collection[int], without_docstring: Collection[int]) -> str:
    """Returns how the top-level statements of a module were read.

    Args:
        tree: the module.
        whole: ids of the statements that counted with their docstrings.
        without_docstring: ids of the statements that counted without them.
    """
    body = _statements(tree)
    exports = any(name == "__all__" for name, _ in bound_names(body))  # then strings anywhere in it may be names
    return "".join(WHOLE if exports else _reading(node, whole, without_docstring) for node in body)


def _reading(node: ast.stmt, whole: Collection[int], without_docstring: Collection[int]) -> str:
    if not isinstance(node, (*_FUNCTIONS, ast.ClassDef)) or id(node) in whole:
        return WHOLE
    if id(node) in without_docstring:
        return NO_DOCSTRING if isinstance(node, _FUNCTIONS) else WHOLE
    return HEAD


def _statements(tree: ast.Module) -> list[ast.stmt]:
    return tree.body[1:] if tree.body and is_string(tree.body[0]) else tree.body


def _read(node: ast.stmt, how: str) -> str:
    if how == HEAD and isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
        outline = head(node)
        if outline is not None:
            return outline
    return text(node, docstrings=how != NO_DOCSTRING)
