"""Finds the statements of a module that bind each name, and whether other code may bind it too."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator, Mapping

_REWRITERS = ("globals", "locals", "vars", "exec")  # a module that calls these may bind any name
_REWRITTEN = (  # and so may one that has any of these attributes
    "__annotations__", "__kwdefaults__", "__defaults__", "__signature__", "__wrapped__", "__dict__", "__globals__",
    "modules",
)  # fmt: skip


Bindings = Mapping[str | None, list[ast.stmt | None]]


@functools.lru_cache(maxsize=64)
def bindings(source: bytes) -> Bindings:
    """Returns the statements that bind each name of a module, with None for one that binds it conditionally.

    The name None is present where any name may be bound: by a star import, or by code that modifies the module.

    Raises:
        SyntaxError, ValueError, RecursionError: the source is not valid Python.
    """
    tree = ast.parse(source)
    found: dict[str | None, list[ast.stmt | None]] = {}
    for statement in tree.body:
        plain = _plainly_bound(statement)
        for name in plain:
            found.setdefault(name, []).append(statement)
        for other in _bound_within(statement, {*plain}):
            found.setdefault(other, []).append(None)
    suspect = any(word.encode() in source for word in ("global", *_REWRITERS, *_REWRITTEN))
    for node in ast.walk(tree) if suspect else ():  # which costs as much as the parsing
        if isinstance(node, ast.Global):
            for name in node.names:
                found.setdefault(name, []).append(None)
        writes = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _REWRITERS
        if writes or (isinstance(node, ast.Attribute) and node.attr in _REWRITTEN):
            found.setdefault(None, []).append(None)
    return found


def _plainly_bound(statement: ast.stmt) -> list[str]:
    """Returns the names that a top-level statement always binds."""
    match statement:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return [name]
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr()):
            return [name]
        case ast.Import(names=names):
            return [alias.asname or alias.name.partition(".")[0] for alias in names]
        case ast.ImportFrom(names=names):
            return [alias.asname or alias.name for alias in names if alias.name != "*"]
    return []


def _bound_within(node: ast.AST, plain: set[str], *, top: bool = True) -> Iterator[str | None]:
    """Other names that a statement binds in its module; not those of the scopes of functions and classes."""
    match node:
        case ast.ImportFrom(names=[ast.alias(name="*")]):
            yield None
            return
        case ast.Import() | ast.ImportFrom() if not top:
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            if not top:
                yield node.name
            outside: list[ast.AST] = [*node.decorator_list]
            outside += [*node.bases, *node.keywords] if isinstance(node, ast.ClassDef) else [node.args]
            for part in outside:
                yield from _bound_within(part, set(), top=False)
            return
        case ast.Lambda():
            return
        case ast.Name(id=name, ctx=ast.Store() | ast.Del()) if name not in plain:
            yield name
        case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
            yield name
        case ast.MatchMapping(rest=str(name)):
            yield name
    simple = isinstance(node, ast.Assign | ast.AnnAssign) and top
    for child in ast.iter_child_nodes(node):
        is_target = simple and isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store) and child.id in plain
        if not is_target and not (isinstance(node, ast.AnnAssign) and node.value is None and child is node.target):
            yield from _bound_within(child, set(), top=False)
