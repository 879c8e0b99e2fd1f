"""Finds the misspelt argument behind a TypeError. Airflow only reports that an argument is missing or unknown."""

from __future__ import annotations

import ast
import inspect
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from airflow.sdk import DAG

from kommuna.errors import nearest


def misspelt(error: BaseException, path: Path) -> str:
    """Names the argument of the failing call that the callee does not have; empty if it has all of them.

    Args:
        error: the error of the DAG file's import.
        path: the DAG file.
    """
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        if frame.f_code.co_filename == str(path):
            return next(_unknown(path, frame, line), "")
    return ""


def _unknown(path: Path, frame: FrameType, line: int) -> Iterator[str]:
    tree = ast.parse(path.read_bytes())
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        called = _value(call.func, frame) if call.lineno <= line <= (call.end_lineno or line) else None
        if not callable(called):
            continue
        known = _arguments(called)
        for keyword in call.keywords:
            if keyword.arg and keyword.arg not in known and (hint := nearest(keyword.arg, known)):
                yield f"{ast.unparse(call.func)} has no argument '{keyword.arg}'{hint}"


def _value(node: ast.expr, frame: FrameType) -> Any:
    """Resolves a name of the file without calling anything."""
    if isinstance(node, ast.Name):
        return frame.f_locals.get(node.id, frame.f_globals.get(node.id))
    if isinstance(node, ast.Attribute):
        owner = _value(node.value, frame)
        return (
            inspect.getattr_static(owner, node.attr, None) if inspect.isclass(owner) else _attribute(owner, node.attr)
        )
    return None


def _attribute(owner: Any, name: str) -> Any:
    """Returns an attribute of a module. Attributes of other objects are not read, since they may run code."""
    return getattr(owner, name, None) if inspect.ismodule(owner) else None


def _arguments(called: Callable[..., Any]) -> set[str]:
    """Returns the keywords that a class or function takes, with those that it passes on."""
    functions = [vars(kind).get("__init__") for kind in called.__mro__] if inspect.isclass(called) else [called]
    known: set[str] = set()
    for function in filter(None, functions):
        try:
            parameters = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            continue
        known |= {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}
        if not inspect.isclass(called) and any(p.kind is p.VAR_KEYWORD for p in parameters):
            known |= set(inspect.signature(DAG.__init__).parameters)
    return known - {"self"}
