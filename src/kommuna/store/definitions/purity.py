"""Decides whether a top-level statement only binds names when its module is imported.

A pure statement cannot fail and runs no code that may have other effects, of the team or of a library. It counts only
for code that refers to the names that it binds. A statement that is not known to be pure is assumed to have effects.
"""

from __future__ import annotations

import ast
import builtins
from typing import TypeGuard

from kommuna.spec.caching import Caching
from kommuna.store.definitions import values
from kommuna.store.definitions.models import MODEL, model_is_pure
from kommuna.store.definitions.references import evaluated, signature_annotations
from kommuna.store.definitions.values import Scope

_FUNCTION_DECORATORS = frozenset(
    {
        *("functools.cache", "functools.lru_cache", "functools.cached_property", "functools.singledispatch"),
        *("contextlib.contextmanager", "contextlib.asynccontextmanager", "abc.abstractmethod"),
        *("typing.overload", "typing.final", "typing.override", "typing.no_type_check"),
        *("staticmethod", "classmethod", "property"),
    }
)
_BASES = frozenset(
    {
        *("typing.NamedTuple", "typing.Protocol", "typing.TypedDict", "abc.ABC", "object"),
        *(name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, Exception)),
    }
)
_MIXED = {"str": "enum.StrEnum", "int": "enum.IntEnum"}
_FLAGS = ("enum.Flag", "enum.IntFlag")
_ENUMS = ("enum.Enum", *_MIXED.values(), *_FLAGS)
_RECORDS = ("typing.NamedTuple", "typing.TypedDict")
_DATACLASS_OPTIONS = frozenset({"frozen", "kw_only", "repr", "init", "slots"})


class _Setter(ast.Attribute):
    """`name.setter`, for the type checker."""

    value: ast.Name


def is_pure(node: ast.stmt, scope: Scope) -> bool:
    """Whether a statement other than an import only binds names."""
    if is_pure_no_op(node):
        return True
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return has_pure_decorators(node, scope) and has_pure_signature(node, scope)
    if isinstance(node, ast.ClassDef):
        return _class_is_pure(node, scope)
    if isinstance(node, ast.Assign):
        return all(_fits(target, node.value) for target in node.targets) and values.value_is_pure(node.value, scope)
    if isinstance(node, ast.AnnAssign):
        annotated = not scope.eager_annotations or values.annotation_is_pure(node.annotation, scope)
        value = node.value is None or values.value_is_pure(node.value, scope)
        return isinstance(node.target, ast.Name) and annotated and value
    return False


def has_pure_decorators(node: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope) -> bool:
    """Whether a function's decorators only wrap it."""
    inner = {"abc.abstractmethod", "functools.cache", "functools.lru_cache", "contextlib.contextmanager"}
    return all(_decorator_is_pure(decorator, scope) for decorator in node.decorator_list) and all(
        isinstance(decorator, ast.Call) or scope.origin(decorator) in inner for decorator in node.decorator_list[1:]
    )


def has_pure_signature(node: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope) -> bool:
    """Whether a function's defaults and annotations are pure."""
    defaults = [*node.args.defaults, *(default for default in node.args.kw_defaults if default is not None)]
    return (
        not getattr(node, "type_params", [])
        and all(values.value_is_pure(default, scope) for default in defaults)
        and (
            not scope.eager_annotations or all(values.annotation_is_pure(a, scope) for a in signature_annotations(node))
        )
    )


def _decorator_is_pure(node: ast.expr, scope: Scope) -> bool:
    if isinstance(node, ast.Call) and scope.origin(node.func) == "kommuna.spec.caching.step":
        return _is_marking(node)
    if isinstance(node, ast.Call):
        options = {keyword.arg: keyword.value for keyword in node.keywords}
        values = [*node.args, *options.values()]
        known = len(values) <= 2 and len(node.args) <= 1 and set(options) <= {"maxsize", "typed"}
        return (
            scope.origin(node.func) == "functools.lru_cache"
            and known
            and all(isinstance(v, ast.Constant) and (v.value is None or isinstance(v.value, int)) for v in values)
            and not (node.args and "maxsize" in options)
        )
    return scope.origin(node) in _FUNCTION_DECORATORS


def _is_marking(node: ast.Call) -> bool:
    """Whether a call of `@step` certainly succeeds."""
    try:
        Caching(**{str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords})
    except ValueError:
        return False
    return not node.args


def _fits(target: ast.expr, value: ast.expr) -> bool:
    """Whether an assignment only binds names."""
    if isinstance(target, ast.Name):
        return True
    return (
        isinstance(target, ast.Tuple)
        and isinstance(value, ast.Tuple)
        and len(target.elts) == len(value.elts)
        and all(isinstance(item, ast.Name) for item in target.elts)
    )


def _class_is_pure(node: ast.ClassDef, scope: Scope) -> bool:
    base = _base(node, scope)
    if base is None or getattr(node, "type_params", []):
        return False
    if base == MODEL:
        return model_is_pure(node, scope) and all(
            _method_is_pure(method, [], scope)
            for method in node.body
            if isinstance(method, (ast.FunctionDef, ast.AsyncFunctionDef))
        )
    dataclass = bool(node.decorator_list)
    if dataclass and (node.bases or len(node.decorator_list) > 1 or not _is_dataclass(node.decorator_list[0], scope)):
        return False
    names: list[str] = []
    optional = False  # a field with a default has been seen
    value: ast.expr | None
    annotation: ast.expr | None
    for statement in node.body:
        if is_pure_no_op(statement):
            continue
        if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef)):
            refused = _is_refused_method(statement.name, base, dataclass, names)
            if refused or not _method_is_pure(statement, names, scope):
                return False
            names.append(statement.name)
            continue
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target, value, annotation = statement.targets[0], statement.value, None
        elif isinstance(statement, ast.AnnAssign):
            target, value, annotation = statement.target, statement.value, statement.annotation
        else:
            return False
        if not isinstance(target, ast.Name) or target.id in names or _is_refused_name(target.id, base):
            return False
        names.append(target.id)
        if annotation is None and base in _RECORDS:
            return False
        if annotation is not None and scope.eager_annotations and not values.annotation_is_pure(annotation, scope):
            return False
        if annotation is not None and value is None and optional and (dataclass or base == "typing.NamedTuple"):
            return False
        optional = optional or value is not None
        if value is not None and not _attribute_is_pure(target.id, value, base, dataclass, scope):
            return False
    if base == "enum.Enum" and not _is_plain_enum(node, scope):
        return False
    eager = [n.annotation for n in node.body if isinstance(n, ast.AnnAssign)]
    eager += [n.value for n in node.body if isinstance(n, (ast.Assign, ast.AnnAssign)) and n.value is not None]
    eager += [e for n in node.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)) for e in evaluated(n)]
    used = {n.id for expression in eager for n in ast.walk(expression) if isinstance(n, ast.Name)}
    setters = {d.value.id for m in node.body for d in getattr(m, "decorator_list", []) if _is_setter(d)}
    return not used - setters & set(names)


def _base(node: ast.ClassDef, scope: Scope) -> str | None:
    """Returns the library class that a class derives from, "" for a plain class of the bundle, None if uncertain."""
    names = [scope.origin(base) or scope.base(base) for base in node.bases] or ["object"]
    if len(names) == 2 and names[0] in _MIXED and names[1] == "enum.Enum" and not node.keywords:
        return _MIXED[names[0]]
    total = [keyword.arg for keyword in node.keywords] == ["total"] and isinstance(node.keywords[0].value, ast.Constant)
    if len(names) > 1 or (node.keywords and not (total and names == ["typing.TypedDict"])):
        return None
    if node.bases and not scope.origin(node.bases[0]) and names != [MODEL]:
        return "" if scope.is_plain_class(node.bases[0]) else None
    return names[0] if names[0] in (*_ENUMS, *_BASES, MODEL) else None


def _is_refused_name(name: str, base: str) -> bool:
    """Whether an attribute's name may have a special meaning in such a class."""
    return name.startswith("__") or (name.startswith("_") and base in (*_ENUMS, *_RECORDS))


def _is_plain_enum(node: ast.ClassDef, scope: Scope) -> bool:
    """Whether all values of an enumeration are given, or are numbers so that `auto` can continue them."""
    assigned = [statement.value for statement in node.body if isinstance(statement, ast.Assign)]
    counted = [_is_auto(value, scope) for value in assigned]
    return not any(counted) or all(
        auto or values.is_number(value, scope) for auto, value in zip(counted, assigned, strict=True)
    )


def _is_auto(node: ast.expr, scope: Scope) -> bool:
    return isinstance(node, ast.Call) and scope.origin(node.func) == "enum.auto" and not node.args + node.keywords


def is_pure_no_op(node: ast.stmt) -> bool:
    """Whether a statement is `pass`, a string or another constant."""
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _attribute_is_pure(name: str, value: ast.expr, base: str, dataclass: bool, scope: Scope) -> bool:
    if base in _ENUMS and name in ("mro", "name", "value"):
        return False
    if base in _ENUMS and _is_auto(value, scope):
        return True
    if base == "enum.StrEnum":
        return values.is_text(value)
    if base == "enum.IntEnum":
        return values.is_number(value, scope)
    if base in _FLAGS:
        return False
    if base == "typing.TypedDict":
        return False
    if dataclass:
        return values.is_hashable(value, scope) or _is_field(value, scope)
    return values.is_literal(value, scope)


def _is_refused_method(name: str, base: str, dataclass: bool, names: list[str]) -> bool:
    """Whether defining a class of this kind may fail because of a method of this name."""
    if base in _ENUMS or base == "typing.NamedTuple":
        return name.startswith("_") or name in names
    if dataclass:
        return name in ("__setattr__", "__delattr__", "__hash__", "__eq__", "__init__")
    return base == "typing.TypedDict" or name in ("__init_subclass__", "__class_getitem__", "__slots__")


def _method_is_pure(node: ast.FunctionDef | ast.AsyncFunctionDef, names: list[str], scope: Scope) -> bool:
    decorators = node.decorator_list
    setter = len(decorators) == 1 and _is_setter(decorators[0]) and decorators[0].value.id == node.name in names
    fresh = node.name not in names and has_pure_decorators(node, scope)
    return (setter or fresh) and has_pure_signature(node, scope)


def _is_setter(node: ast.expr) -> TypeGuard[_Setter]:
    return (
        isinstance(node, ast.Attribute)
        and node.attr in ("setter", "getter", "deleter")
        and isinstance(node.value, ast.Name)
    )


def _is_dataclass(node: ast.expr, scope: Scope) -> bool:
    if isinstance(node, ast.Call):
        options = all(
            k.arg in _DATACLASS_OPTIONS and isinstance(k.value, ast.Constant) and isinstance(k.value.value, bool)
            for k in node.keywords
        )
        return options and not node.args and scope.origin(node.func) == "dataclasses.dataclass"
    return scope.origin(node) == "dataclasses.dataclass"


def _is_field(node: ast.expr, scope: Scope) -> bool:
    """Whether a value is `field(default_factory=list)` or the like."""
    if not isinstance(node, ast.Call) or scope.origin(node.func) != "dataclasses.field" or node.args:
        return False
    return all(
        k.arg == "default_factory" and isinstance(k.value, ast.Name) and scope.is_builtin(k.value.id)
        for k in node.keywords
    ) and bool(node.keywords)
