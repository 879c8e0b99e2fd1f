"""Decides whether defining a pydantic model only binds its name: fields of common types, defaults and plain methods."""

from __future__ import annotations

import ast
from typing import Any

from pydantic import BaseModel

from kommuna.store.definitions import values
from kommuna.store.definitions.references import evaluated
from kommuna.store.definitions.values import Scope

MODEL = "pydantic.BaseModel"
_TAKEN = frozenset(dir(BaseModel))
_BUILTIN_TYPES = frozenset({"int", "float", "str", "bytes", "bool", "list", "dict", "set", "frozenset", "tuple"})
_LIBRARY_TYPES = frozenset(
    {
        *("typing.Any", "datetime.date", "datetime.datetime", "datetime.time", "datetime.timedelta"),
        *("decimal.Decimal", "pathlib.Path", "uuid.UUID"),
    }
)
_PARAMETERS = {"list": 1, "set": 1, "frozenset": 1, "dict": 2, "typing.Optional": 1}
_SWITCHES = frozenset(
    {
        *("frozen", "populate_by_name", "str_strip_whitespace", "validate_assignment", "validate_default"),
        *("arbitrary_types_allowed", "use_enum_values", "strict", "from_attributes"),
    }
)
_EXTRAS = ("allow", "forbid", "ignore")
_BOUNDS = frozenset({"ge", "gt", "le", "lt"})


def model_is_pure(node: ast.ClassDef, scope: Scope) -> bool:
    """Whether defining a subclass of pydantic's base class, or of such a class of the bundle, has no other effect.

    The caller must check the decorators and signatures of its methods.
    """
    direct = scope.origin(node.bases[0]) == MODEL
    names: list[str] = []
    eager: list[ast.expr] = []
    for statement in node.body:
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            names.append(statement.name)
            eager += evaluated(statement)
            if not direct:  # it may replace a field
                return False
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            names.append(statement.target.id)
            eager += [statement.annotation, *([statement.value] if statement.value else [])]
            if not _is_field_type(statement.annotation, scope) or not _default_is_pure(statement, scope):
                return False
        elif isinstance(statement, ast.Assign):
            if ast.unparse(statement.targets[0]) != "model_config" or not _is_config(statement.value, scope):
                return False
        elif not isinstance(statement, ast.Pass) and not (
            isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
        ):
            return False
    used = {n.id for expression in eager for n in ast.walk(expression) if isinstance(n, ast.Name)}
    refused = any(name in _TAKEN or name.startswith(("_", "model_")) or name in used for name in names)
    return not refused and not node.decorator_list and len(set(names)) == len(names)


def _is_field_type(node: ast.expr, scope: Scope) -> bool:
    """Whether pydantic certainly has a schema for a type."""
    if isinstance(node, ast.Constant):
        return node.value is None
    if isinstance(node, ast.BinOp):
        return values.annotation_is_pure(node, scope) and all(_is_field_type(n, scope) for n in (node.left, node.right))
    if isinstance(node, ast.Subscript):
        return _is_generic_field(node, scope)
    origin = scope.origin(node)
    if origin:
        return origin in _BUILTIN_TYPES or origin in _LIBRARY_TYPES
    return scope.is_class(node) and (scope.base(node) == MODEL or scope.base(node).startswith("enum."))


def _is_generic_field(node: ast.Subscript, scope: Scope) -> bool:
    origin = scope.origin(node.value)
    parameters = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if origin == "typing.Literal":
        return all(values.is_hashable(item, scope) for item in parameters)
    if origin == "tuple" and len(parameters) == 2 and ast.unparse(parameters[1]) == "...":
        return _is_field_type(parameters[0], scope)
    known = origin in ("tuple", "typing.Union") or _PARAMETERS.get(origin) == len(parameters)
    return known and all(_is_field_type(item, scope) for item in parameters)


def _default_is_pure(node: ast.AnnAssign, scope: Scope) -> bool:
    if node.value is None or values.is_literal(node.value, scope):
        return True
    if not isinstance(node.value, ast.Call) or scope.origin(node.value.func) != "pydantic.Field":
        return False
    options: dict[Any, ast.expr] = {keyword.arg: keyword.value for keyword in node.value.keywords}
    defaults = len(node.value.args) + sum(name in options for name in ("default", "default_factory"))
    numeric = isinstance(node.annotation, ast.Name) and scope.origin(node.annotation) in ("int", "float")
    return defaults <= 1 and all(
        [
            *(values.is_literal(argument, scope) for argument in node.value.args),
            *(_option_is_pure(name, value, scope, numeric=numeric) for name, value in options.items()),
        ]
    )


def _option_is_pure(name: str | None, value: ast.expr, scope: Scope, *, numeric: bool) -> bool:
    if name in _BOUNDS:
        return numeric and values.is_number(value, scope)
    if name == "default_factory":
        return isinstance(value, ast.Name) and scope.is_builtin(value.id) and values.value_is_pure(value, scope)
    if name == "default":
        return values.is_literal(value, scope)
    return name in ("description", "title") and values.is_text(value)


def _is_config(node: ast.expr, scope: Scope) -> bool:
    if not isinstance(node, ast.Call) or scope.origin(node.func) != "pydantic.ConfigDict" or node.args:
        return False
    return all(
        isinstance(k.value, ast.Constant)
        and (isinstance(k.value.value, bool) if k.arg in _SWITCHES else k.arg == "extra" and k.value.value in _EXTRAS)
        for k in node.keywords
    )
