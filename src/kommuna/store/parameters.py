"""What a step declares its parameters as, read from its source: nothing is imported, so a lookup stays cheap.

Only what can be told for certain is told: builtins, dates, decimals, Kommuna's own specs, and what `typing` makes of
them. A parameter of another type, or with a validator, is left as it was given; the runtime judges it.
"""

from __future__ import annotations

import ast
import functools
import importlib
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python

from kommuna.spec.words import in_words, problems
from kommuna.store.key import source_file, source_roots

_BUILTINS = {t.__name__: t for t in (str, int, float, bool, list, dict, tuple, set, frozenset)}
_IMPORTED = ("typing", "collections.abc", "datetime", "decimal", "kommuna.spec")  # importing these costs nothing
_PLAIN_METADATA: dict[str, Callable[..., Any]] = {
    "Field": Field,
    "StringConstraints": StringConstraints,
}  # they bound a value, and do not change it
_DEPTH = 8


class _Unknown(Exception):
    """The annotation is none of those that can be told from the source."""


def parameter_types(function: str, *, bundle: Path | None = None) -> dict[str, Any]:
    """The types of a step's keyword arguments, of those that can be told from its source.

    Args:
        function: `module:function`; one that is not there has none.
        bundle: the team's folder, searched first.
    """
    name, _, wanted = function.partition(":")
    try:
        module = _Module(name, bundle)
        found = module.function(wanted)
    except _Unknown:
        return {}
    module, node = found
    types = {}
    for argument in node.args.kwonlyargs:
        try:
            types[argument.arg] = module.type_of(argument.annotation)
        except _Unknown:
            continue
    return types


def canonical(params: Mapping[str, Any], types: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as JSON, each as its type has it: 0, 0.0 and "0" are one number for a step that declares a float.

    What does not fit its type stays as it is.
    """
    return {name: _coerced(value, types[name]) if name in types else value for name, value in params.items()}


def cast_rendered(value: Any, wanted: Any) -> Any:
    """What a template rendered, as JSON of the type that the step declares; what does not fit stays as it is.

    Args:
        value: of any type, as the template's expression has it.
        wanted: the declared type; None where it is not known.
    """
    if _is_text(wanted) and value is not None:
        return str(value)
    if wanted is not None:
        adapter = TypeAdapter(wanted, config=_config(wanted))
        for read in (adapter.validate_python, adapter.validate_json):  # text may be JSON, by the filter `tojson`
            try:
                return adapter.dump_python(read(value), mode="json")
            except (ValueError, TypeError):
                continue
    return to_jsonable_python(value, fallback=str)


def _is_text(wanted: Any) -> bool:
    """Whether a type is text, be it bounded."""
    return wanted is str or (typing.get_origin(wanted) is typing.Annotated and typing.get_args(wanted)[0] is str)


def refusal(value: Any, wanted: Any) -> str:
    """Why a step refuses what a template rendered for one of its parameters; empty where it takes it.

    Args:
        value: what the template's expression has.
        wanted: the declared type.
    """
    try:
        TypeAdapter(wanted, config=_config(wanted)).validate_python(cast_rendered(value, wanted))
    except ValidationError as error:
        return in_words(problems(error)[0])
    return ""


def _config(wanted: Any) -> ConfigDict | None:
    """A number in the place of a text is that text; a spec has a configuration of its own."""
    return None if hasattr(wanted, "model_config") else ConfigDict(coerce_numbers_to_str=True)


def _coerced(value: Any, wanted: Any) -> Any:
    try:
        adapter = TypeAdapter(wanted)
        return adapter.dump_python(adapter.validate_python(value), mode="json")
    except (ValueError, TypeError):
        return value


class _Module:
    """A module's source, and what its names stand for."""

    def __init__(self, name: str, bundle: Path | None, depth: int = 0) -> None:
        path = source_file(name, source_roots(bundle))
        if path is None or depth > _DEPTH:
            raise _Unknown(name)
        try:
            self._tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):
            raise _Unknown(name) from None
        self._bundle = bundle
        self._depth = depth

    def function(self, name: str) -> tuple[_Module, ast.FunctionDef]:
        """A function, here or where it was imported from, with its module."""
        for node in self._tree.body:
            if isinstance(node, ast.FunctionDef) and node.name == name:
                return self, node
        home, original = self._import(name)
        return _Module(home, self._bundle, self._depth + 1).function(original)

    def type_of(self, node: ast.expr | None) -> Any:
        """The type that an annotation stands for."""
        match node:
            case ast.Constant(value=None):
                return None
            case ast.Constant(value=str(text)):
                return self.type_of(_parsed(text))
            case ast.Name(id=name):
                return self._named(name)
            case ast.Attribute(value=ast.Name(id=name), attr=attribute):
                return _attribute(self._module(name), attribute)
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return typing.Union[self.type_of(left), self.type_of(right)]  # noqa: UP007  # of values
            case ast.Subscript(value=base, slice=inner):
                return self._subscripted(self.type_of(base), inner)
        raise _Unknown(ast.dump(node) if node else "no annotation")

    def _subscripted(self, base: Any, inner: ast.expr) -> Any:
        parts = inner.elts if isinstance(inner, ast.Tuple) else [inner]
        if base is typing.Literal:
            return typing.Literal[tuple(part.value for part in parts if isinstance(part, ast.Constant))]
        if base is typing.Annotated:
            bounds = [_bound(part) for part in parts[1:]]
            return functools.reduce(lambda inner, bound: typing.Annotated[inner, bound], bounds, self.type_of(parts[0]))
        types = tuple(
            ... if isinstance(part, ast.Constant) and part.value is ... else self.type_of(part) for part in parts
        )
        return base[types if len(types) > 1 else types[0]]

    def _named(self, name: str) -> Any:
        for node in self._tree.body:
            match node:
                case ast.Assign(targets=[ast.Name(id=target)], value=value) if target == name:
                    return self.type_of(value)
                case ast.ClassDef(name=target) | ast.FunctionDef(name=target) if target == name:
                    raise _Unknown(name)
        try:
            home, original = self._import(name)
        except _Unknown:
            if name in _BUILTINS:
                return _BUILTINS[name]
            raise
        if home in _IMPORTED or home.startswith("kommuna.spec."):
            return _attribute(home, original)
        return _Module(home, self._bundle, self._depth + 1)._named(original)

    def _import(self, name: str) -> tuple[str, str]:
        """Where a name was imported from, and what it is called there."""
        for node in self._tree.body:
            if isinstance(node, ast.ImportFrom) and not node.level:
                for alias in node.names:
                    if (alias.asname or alias.name) == name:
                        return node.module or "", alias.name
        raise _Unknown(name)

    def _module(self, name: str) -> str:
        """The module that a name stands for."""
        for node in self._tree.body:
            for alias in node.names if isinstance(node, ast.Import) else ():
                if (alias.asname or alias.name) == name:
                    return alias.name
        return ".".join(self._import(name))


def _attribute(module: str, name: str) -> Any:
    """A type of a module that may be imported."""
    if module not in _IMPORTED and not module.startswith("kommuna.spec."):
        raise _Unknown(f"{module}.{name}")
    found = getattr(importlib.import_module(module), name, None)
    if found is None:
        raise _Unknown(f"{module}.{name}")
    return found


def _bound(node: ast.expr) -> Any:
    """What bounds a type: `Field(ge=0)`."""
    made = _PLAIN_METADATA.get(_last_name(node.func)) if isinstance(node, ast.Call) else None
    if made is None or not isinstance(node, ast.Call):
        raise _Unknown(ast.dump(node))
    try:
        return made(
            *(ast.literal_eval(part) for part in node.args),
            **{str(part.arg): ast.literal_eval(part.value) for part in node.keywords},
        )
    except (ValueError, TypeError):
        raise _Unknown(ast.dump(node)) from None


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _parsed(text: str) -> ast.expr:
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError:
        raise _Unknown(text) from None
