"""Reads a step's signature from its source: types and defaults of its parameters. Imports no code of a team.

Anything uncertain is `UNKNOWN` and left to the step's own process: a name that is bound twice, in an `if` or by `*`, a
decorated function, a type with its own validation code.
"""

from __future__ import annotations

import ast
import functools
import importlib
import sys
import typing
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import SOURCE_SUFFIXES
from pathlib import Path
from typing import Any

from pydantic import Field, StringConstraints

import kommuna
from kommuna.spec.versions import code_of
from kommuna.store.bindings import bindings
from kommuna.store.searches import module_in

_BUILTINS = {t.__name__: t for t in (str, bytes, int, float, bool, list, dict, tuple, set, frozenset, object)}
_IMPORTED = ("typing", "collections.abc", "datetime", "decimal", "pathlib", "uuid")  # importing these is cheap
_BOUNDS: dict[tuple[str, str], Callable[..., Any]] = {
    ("pydantic", "Field"): Field,
    ("pydantic", "StringConstraints"): StringConstraints,
}
# Decorators that do not change a function's arguments.
_PLAIN_DECORATORS = {("kommuna.spec.caching", "step"), ("kommuna.steps.frames", "takes_frames")}
_ROOT = Path(kommuna.__file__).parent.parent
_DEPTH = 16


class Unknown(Exception):
    """The value cannot be determined from the source with certainty."""


@dataclass(frozen=True)
class DeclaredParameter:
    """The declaration of a keyword-only argument.

    Args:
        type: its type; `UNKNOWN` if it cannot be determined.
        default: its default; `UNKNOWN` if there is none, or it cannot be determined.
    """

    type: Any
    default: Any


UNKNOWN: Any = object()


def declared_parameters(function: str, *, bundle: Path | None = None) -> dict[str, DeclaredParameter]:
    """Returns the keyword-only arguments of a step; empty if its function cannot be found with certainty.

    Args:
        function: `module:function`.
        bundle: the team's folder, searched first.
    """
    name, _, wanted = code_of(function).partition(":")
    try:
        module, node = SourceModule(name, bundle).function(wanted)
    except Unknown:
        return {}
    arguments = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    return {
        argument.arg: DeclaredParameter(
            _or_unknown(module.type_of, argument.annotation), _or_unknown(module.value_of, default)
        )
        for argument, default in arguments
    }


def optional_inputs(function: str, *, bundle: Path | None = None) -> frozenset[str]:
    """Returns the inputs of a step whose default is None, as far as its source shows.

    Args:
        function: `module:function`.
        bundle: the team's folder, searched first.
    """
    name, _, wanted = function.partition(":")
    try:
        arguments = SourceModule(name, bundle).function(wanted)[1].args
    except Unknown:
        return frozenset()
    every = [*arguments.posonlyargs, *arguments.args]
    defaults = zip(reversed(every), reversed(arguments.defaults), strict=False)
    return frozenset(a.arg for a, default in defaults if isinstance(default, ast.Constant) and default.value is None)


def _or_unknown(read: Any, node: ast.expr | None) -> Any:
    try:
        return read(node)
    except Unknown:
        return UNKNOWN


class SourceModule:
    """A module's source, and the meaning of its names.

    Args:
        name: the module's dotted name.
        bundle: the team's folder, searched first; None if there is none.
        depth: how many imports led to it, which is limited.

    Raises:
        Unknown: the module is not found, or its source cannot be parsed.
    """

    def __init__(self, name: str, bundle: Path | None, depth: int = 0) -> None:
        path = _source_file(name, bundle)
        if path is None or depth > _DEPTH:
            raise Unknown(name)
        try:
            self._names = bindings(path.read_bytes())
        except (SyntaxError, ValueError, OSError, RecursionError):
            raise Unknown(name) from None
        self._package = name if path.stem == "__init__" else name.rpartition(".")[0]
        self._bundle = bundle
        self._depth = depth
        self._reading: set[str] = set()

    def function(self, name: str) -> tuple[SourceModule, ast.FunctionDef]:
        """Returns a function and the module that defines it, following imports."""
        match self._binding(name):
            case ast.FunctionDef(decorator_list=decorators) as node if not getattr(node, "type_params", None):
                if all(self._is_plain(decorator) for decorator in decorators):
                    return self, node
            case ast.Assign(value=ast.Name(id=other)):
                with self._once(name):
                    return self.function(other)
            case ast.ImportFrom() as node:
                home, original = self._origin(node, name)
                return self._other(home).function(original)
        raise Unknown(name)

    def type_of(self, node: ast.expr | None) -> Any:
        """Returns the type that an annotation means."""
        match node:
            case ast.Constant(value=None):
                return None
            case ast.Constant(value=str(text)):
                return self.type_of(_parsed(text))
            case ast.Name(id=name):
                return self.named(name)
            case ast.Attribute(attr=attribute):
                return self._attribute(node, attribute)
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return self._made(lambda: typing.Union[self.type_of(left), self.type_of(right)])  # noqa: UP007
            case ast.Subscript(value=base, slice=inner):
                return self._subscripted(self.type_of(base), inner)
        raise Unknown(ast.dump(node) if node else "no annotation")

    def value_of(self, node: ast.expr | None) -> Any:
        """Returns the value of a literal, or of a constant that is bound once to an immutable literal."""
        if isinstance(node, ast.Attribute):
            return self._other(self._module(node.value)).value_of(ast.Name(node.attr))
        if not isinstance(node, ast.Name):
            return _literal(node)
        match self._binding(node.id):
            case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
                found = _literal(value)
                try:
                    hash(found)
                except TypeError:  # a mutable value may have been changed
                    raise Unknown(node.id) from None
                return found
            case ast.ImportFrom() as imported:
                home, original = self._origin(imported, node.id)
                return self._other(home).value_of(ast.Name(original))
        raise Unknown(node.id)

    def named(self, name: str) -> Any:
        """Returns the type that a name means."""
        if name not in self._names and name in _BUILTINS and None not in self._names:
            return _BUILTINS[name]
        match self._binding(name):
            case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
                if isinstance(value, ast.Constant) and value.value is not None:
                    raise Unknown(name)
                with self._once(name):
                    return self.type_of(value)
            case ast.ImportFrom() as node:
                home, original = self._origin(node, name)
                return self._in_module(home, original)
        raise Unknown(name)

    def _attribute(self, node: ast.Attribute, attribute: str) -> Any:
        return self._in_module(self._module(node.value), attribute)

    def _in_module(self, home: str, name: str) -> Any:
        if home not in _IMPORTED and not home.startswith("kommuna.spec."):
            return self._other(home).named(name)
        found = getattr(importlib.import_module(home), name, None)
        if found is None or isinstance(found, str):
            raise Unknown(f"{home}.{name}")
        return found

    def _other(self, name: str) -> SourceModule:
        return SourceModule(name, self._bundle, self._depth + 1)

    def _module(self, node: ast.expr) -> str:
        """Returns the module that an expression means: `dt`, `collections.abc`."""
        if isinstance(node, ast.Attribute):
            dotted = ast.unparse(node)
            top = dotted.partition(".")[0]
            match self._binding(top):
                case ast.Import(names=names) if any(a.name == dotted and not a.asname for a in names):
                    return dotted
            raise Unknown(dotted)
        name = node.id if isinstance(node, ast.Name) else ""
        match self._binding(name):
            case ast.Import(names=names):
                for alias in names:
                    if alias.asname == name or (alias.name == name and not alias.asname):
                        return alias.name
            case ast.ImportFrom() as imported:
                home, original = self._origin(imported, name)
                return self._submodule(home, original)
        raise Unknown(name)

    def _submodule(self, home: str, name: str) -> str:
        """Returns the module that `from home import name` imports."""
        full = f"{home}.{name}"
        if full not in _IMPORTED and not full.startswith("kommuna.spec."):
            names = self._other(home)._names
            if name in names or None in names:
                raise Unknown(full)
        return full

    def _subscripted(self, base: Any, inner: ast.expr) -> Any:
        parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
        if base is typing.Literal:
            return self._made(lambda: typing.Literal[tuple(_literal(part) for part in parts)])
        if base is typing.Annotated:
            first, bounds = self.type_of(parts[0]), [self._bound(part) for part in parts[1:]]
            return self._made(
                lambda: functools.reduce(lambda made, bound: typing.Annotated[made, bound], bounds, first)
            )
        types = tuple(
            ... if isinstance(part, ast.Constant) and part.value is ... else self.type_of(part) for part in parts
        )
        return self._made(lambda: base[types if len(types) > 1 else types[0]])

    def _made(self, make: Any) -> Any:
        try:
            return make()
        except (TypeError, AttributeError, RecursionError):
            raise Unknown("not a type") from None

    def _bound(self, node: ast.expr) -> Any:
        """Returns the constraint of an annotated type, such as `Field(ge=0)`; a text is not a constraint."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        made = _BOUNDS.get(self._home(node.func)) if isinstance(node, ast.Call) else None
        if made is None or not isinstance(node, ast.Call) or any(part.arg is None for part in node.keywords):
            raise Unknown(ast.dump(node))
        try:
            return made(
                *(_literal(part) for part in node.args),
                **{str(part.arg): _literal(part.value) for part in node.keywords},
            )
        except (ValueError, TypeError):
            raise Unknown(ast.dump(node)) from None

    def _is_plain(self, decorator: ast.expr) -> bool:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        try:
            return self._home(called) in _PLAIN_DECORATORS
        except Unknown:
            return False

    def _home(self, node: ast.expr) -> tuple[str, str]:
        """Returns the module and name that an expression comes from: `("pydantic", "Field")`."""
        if isinstance(node, ast.Attribute):
            return self._module(node.value), node.attr
        match self._binding(name := node.id if isinstance(node, ast.Name) else ""):
            case ast.ImportFrom() as imported:
                return self._origin(imported, name)
        raise Unknown(name)

    def _binding(self, name: str) -> ast.stmt:
        """Returns the only statement that binds a name."""
        found = self._names.get(name, [])
        if None in self._names or len(found) != 1 or found[0] is None:
            raise Unknown(name)
        return found[0]

    def _origin(self, node: ast.ImportFrom, name: str) -> tuple[str, str]:
        """Returns the module that a name was imported from, and its name there."""
        home = node.module or ""
        if node.level:
            parts = self._package.split(".") if self._package else []
            if node.level > len(parts):
                raise Unknown(name)
            home = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [home])])
        return home, next(alias.name for alias in node.names if (alias.asname or alias.name) == name)

    def _once(self, name: str) -> _Reading:
        return _Reading(self._reading, name)


class _Reading:
    """Guards against names that are defined by themselves, which are unknown."""

    def __init__(self, reading: set[str], name: str) -> None:
        self._reading, self._name = reading, name

    def __enter__(self) -> None:
        if self._name in self._reading:
            raise Unknown(self._name)
        self._reading.add(self._name)

    def __exit__(self, *_: object) -> None:
        self._reading.discard(self._name)


def _literal(node: ast.expr | None) -> Any:
    if node is None:
        raise Unknown("no value")
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        raise Unknown(ast.dump(node)) from None


def _parsed(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError):
        raise Unknown(text) from None


def _source_file(name: str, bundle: Path | None) -> Path | None:
    """Returns the source file that importing a module would run; None if it would run something else."""
    top, *rest = name.split(".")
    if top in sys.stdlib_module_names:  # the runtime has already imported these
        return None
    roots = [_ROOT] if top == "kommuna" else [root for root in (bundle, _ROOT) if root is not None]
    for root in roots:
        found = module_in(str(root), top)
        for part in rest:
            found = found and module_in(found.rpartition("/__init__.")[0] or found, part)
        if found and Path(found).is_file():
            return Path(found) if Path(found).suffix in SOURCE_SUFFIXES else None
    return None
