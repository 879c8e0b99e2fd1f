"""Whether a top-level statement does nothing but bind names when its module is imported.

A statement that is pure runs no code of the team's and of no library that can do anything else, and cannot fail. It
matters only to what refers to the names that it binds. What is not known to be pure is taken to act.
"""

from __future__ import annotations

import ast
import builtins
import operator
import re
from collections.abc import Callable
from typing import Any, Protocol, TypeGuard

from kommuna.spec.caching import Caching
from kommuna.store.definitions.references import evaluated, is_path_of_file, signature_annotations

_BUILTINS = frozenset(dir(builtins))
_GENERIC = frozenset({"list", "dict", "tuple", "set", "frozenset", "type"})
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
_ENUMS = ("enum.Enum", "enum.StrEnum")
_RECORDS = ("typing.NamedTuple", "typing.TypedDict")
_DATACLASS_OPTIONS = frozenset({"frozen", "kw_only", "repr", "init"})
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
}
_LARGE = 2**64


class _Setter(ast.Attribute):
    """`name.setter`, for the type checker."""

    value: ast.Name


class Scope(Protocol):
    """What is known of a module's names at one of its statements."""

    eager_annotations: bool

    def is_bound(self, name: str) -> bool:
        """Whether a name is surely bound by now."""

    def is_builtin(self, name: str) -> bool:
        """Whether a name means Python's own."""

    def origin(self, node: ast.expr) -> str:
        """The dotted name in a library that an expression surely means: `functools.cache`; "" otherwise."""

    def is_class(self, node: ast.expr) -> bool:
        """Whether an expression surely means a class of the bundle whose definition is pure."""

    def is_plain_class(self, node: ast.expr) -> bool:
        """Whether an expression surely means such a class that has no say in its subclasses either."""


def is_pure(node: ast.stmt, scope: Scope) -> bool:
    """Whether a statement that is no import only binds names."""
    if is_pure_no_op(node):
        return True
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return has_pure_decorators(node, scope) and has_pure_signature(node, scope)
    if isinstance(node, ast.ClassDef):
        return _class_is_pure(node, scope)
    if isinstance(node, ast.Assign):
        return all(_fits(target, node.value) for target in node.targets) and _value_is_pure(node.value, scope)
    if isinstance(node, ast.AnnAssign):
        annotated = not scope.eager_annotations or _annotation_is_pure(node.annotation, scope)
        value = node.value is None or _value_is_pure(node.value, scope)
        return isinstance(node.target, ast.Name) and annotated and value
    return False


def has_pure_decorators(node: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope) -> bool:
    """Whether a function's decorators only wrap it."""
    inner = {"abc.abstractmethod", "functools.cache", "functools.lru_cache", "contextlib.contextmanager"}
    return all(_decorator_is_pure(decorator, scope) for decorator in node.decorator_list) and all(
        isinstance(decorator, ast.Call) or scope.origin(decorator) in inner for decorator in node.decorator_list[1:]
    )


def has_pure_signature(node: ast.FunctionDef | ast.AsyncFunctionDef, scope: Scope) -> bool:
    """Whether a function's defaults and annotations only name things."""
    defaults = [*node.args.defaults, *(default for default in node.args.kw_defaults if default is not None)]
    return (
        not getattr(node, "type_params", [])
        and all(_value_is_pure(default, scope) for default in defaults)
        and (not scope.eager_annotations or all(_annotation_is_pure(a, scope) for a in signature_annotations(node)))
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
    """Whether a call of `@step` surely succeeds."""
    try:
        Caching(**{str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords})
    except ValueError:
        return False
    return not node.args


def _value_is_pure(node: ast.expr, scope: Scope) -> bool:
    if isinstance(node, ast.Name):
        return scope.is_bound(node.id) or scope.is_builtin(node.id)
    if isinstance(node, (ast.Tuple, ast.List)):
        return all(_value_is_pure(item, scope) for item in node.elts)
    if isinstance(node, ast.Set):
        return all(_is_hashable(item) for item in node.elts)
    if isinstance(node, ast.Dict):
        keys = all(key is not None and _is_hashable(key) for key in node.keys)
        return keys and all(_value_is_pure(value, scope) for value in node.values)
    if isinstance(node, ast.Lambda):
        defaults = [*node.args.defaults, *(default for default in node.args.kw_defaults if default is not None)]
        return all(_value_is_pure(default, scope) for default in defaults)
    if isinstance(node, ast.Call):
        return _call_is_pure(node, scope)
    if isinstance(node, ast.Attribute) and node.attr == "parent" and is_path_of_file(node.value):
        path = next(inner for inner in ast.walk(node.value) if isinstance(inner, ast.Call) and inner.args)
        return scope.origin(path.func) == "pathlib.Path"
    return _is_constant(node)


def _call_is_pure(node: ast.Call, scope: Scope) -> bool:
    if scope.origin(node.func) in ("logging.getLogger", "typing.TypeVar"):
        names = [_is_text(argument) or _is_own_name(argument, scope) for argument in node.args]
        return not node.keywords and names == [True]
    if scope.origin(node.func) == "re.compile":
        return _pattern_compiles(node, scope)
    if scope.origin(node.func) == "pathlib.Path":
        return not node.keywords and all(_is_text(argument) for argument in node.args)
    if isinstance(node.func, ast.Name) and node.func.id in _GENERIC - {"type"} and scope.is_builtin(node.func.id):
        if node.keywords or len(node.args) > 1:
            return False
        if not node.args:
            return True
        argument = node.args[0]
        if node.func.id == "dict":
            return isinstance(argument, ast.Dict) and _value_is_pure(argument, scope)
        literal = isinstance(argument, (ast.Tuple, ast.List, ast.Set))
        return literal and all(_is_hashable(item) for item in argument.elts)  # type: ignore[attr-defined]
    return False


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _is_own_name(node: ast.expr, scope: Scope) -> bool:
    return isinstance(node, ast.Name) and node.id == "__name__" and scope.is_builtin(node.id)


def _pattern_compiles(node: ast.Call, scope: Scope) -> bool:
    flags = 0
    for argument in node.args[1:]:
        for flag in ast.walk(argument):
            if isinstance(flag, ast.Attribute):
                value = getattr(re, flag.attr, None)
                if not isinstance(value, re.RegexFlag) or scope.origin(flag) != f"re.{flag.attr}":
                    return False
                flags |= value
            elif not isinstance(flag, (ast.BinOp, ast.BitOr, ast.Name, ast.Load)):
                return False
    if node.keywords or not 1 <= len(node.args) <= 2:
        return False
    try:
        re.compile(_constant(node.args[0]), flags)
    except Exception:
        return False
    return True


def _is_hashable(node: ast.expr) -> bool:
    if isinstance(node, ast.Tuple):
        return all(_is_hashable(item) for item in node.elts)
    return _is_constant(node)


def _is_constant(node: ast.expr) -> bool:
    try:
        _constant(node)
    except Exception:  # also what the arithmetic itself raises
        return False
    return True


def _constant(node: ast.expr) -> Any:
    """The value of arithmetic on constants; raises where it is anything else, fails or grows large."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.JoinedStr) and all(isinstance(part, ast.Constant) for part in node.values):
        return "".join(part.value for part in node.values)  # type: ignore[attr-defined]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = _constant(node.operand)
        if isinstance(value, (int, float, complex)):
            return -value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = _constant(node.left), _constant(node.right)
        numbers = all(isinstance(v, (int, float)) and abs(v) < _LARGE for v in (left, right))
        strings = isinstance(left, str) and isinstance(node.op, ast.Add) and isinstance(right, str)
        repeated = isinstance(left, str) and isinstance(node.op, ast.Mult) and isinstance(right, int) and right < 1000
        if numbers or strings or repeated:
            return _OPERATORS[type(node.op)](left, right)
    raise ValueError("not a constant")


def _fits(target: ast.expr, value: ast.expr) -> bool:
    """Whether an assignment binds names and no more."""
    if isinstance(target, ast.Name):
        return True
    return (
        isinstance(target, ast.Tuple)
        and isinstance(value, ast.Tuple)
        and len(target.elts) == len(value.elts)
        and all(isinstance(item, ast.Name) for item in target.elts)
    )


def _annotation_is_pure(node: ast.expr, scope: Scope) -> bool:
    if isinstance(node, ast.Constant):
        return node.value is None or node.value is Ellipsis or isinstance(node.value, str)
    if isinstance(node, ast.Name):
        return scope.is_bound(node.id) or scope.is_builtin(node.id)
    if isinstance(node, ast.Attribute):
        return bool(scope.origin(node))
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        sides = (node.left, node.right)
        none = [isinstance(side, ast.Constant) for side in sides]
        return not all(none) and all(_is_type(side, scope) for side in sides)
    if isinstance(node, ast.Subscript):
        if scope.origin(node.value) in ("typing.Callable", "collections.abc.Callable"):
            pair = node.slice.elts if isinstance(node.slice, ast.Tuple) else []
            if len(pair) != 2 or not isinstance(pair[0], (ast.List, ast.Constant)):
                return False
        elif scope.origin(node.value) == "typing.Literal":
            return _is_hashable(node.slice)
        return _is_generic(node.value, scope) and _parameters_are_pure(node.slice, scope)
    return False


def _is_type(node: ast.expr, scope: Scope) -> bool:
    """Whether an annotation surely supports `|`."""
    if isinstance(node, ast.Constant):
        return node.value is None
    if isinstance(node, ast.Name) and scope.is_builtin(node.id):
        return isinstance(getattr(builtins, node.id), type)
    if isinstance(node, (ast.BinOp, ast.Subscript)):
        return _annotation_is_pure(node, scope)
    return bool(scope.origin(node)) or scope.is_class(node)


def _is_generic(node: ast.expr, scope: Scope) -> bool:
    if isinstance(node, ast.Name) and scope.is_builtin(node.id):
        return node.id in _GENERIC
    return bool(scope.origin(node))


def _parameters_are_pure(node: ast.expr, scope: Scope) -> bool:
    if isinstance(node, (ast.Tuple, ast.List)):
        return all(_parameters_are_pure(item, scope) for item in node.elts)
    return _annotation_is_pure(node, scope)


def _class_is_pure(node: ast.ClassDef, scope: Scope) -> bool:
    if node.keywords or len(node.bases) > 1 or getattr(node, "type_params", []):
        return False
    base = scope.origin(node.bases[0]) if node.bases else "object"
    if not (base in _ENUMS or base in _BASES or scope.is_plain_class(node.bases[0])):
        return False
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
        if not isinstance(target, ast.Name) or target.id.startswith("_") or target.id in names:
            return False
        names.append(target.id)
        if annotation is None and base in _RECORDS:
            return False
        if annotation is not None and scope.eager_annotations and not _annotation_is_pure(annotation, scope):
            return False
        if annotation is not None and value is None and optional and (dataclass or base == "typing.NamedTuple"):
            return False
        optional = optional or value is not None
        if value is not None and not _attribute_is_pure(target.id, value, base, dataclass, scope):
            return False
    eager = [n.annotation for n in node.body if isinstance(n, ast.AnnAssign)]
    eager += [e for n in node.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)) for e in evaluated(n)]
    used = {n.id for expression in eager for n in ast.walk(expression) if isinstance(n, ast.Name)}
    setters = {d.value.id for m in node.body for d in getattr(m, "decorator_list", []) if _is_setter(d)}
    return not used - setters & set(names)


def is_pure_no_op(node: ast.stmt) -> bool:
    """Whether a statement is `pass`, a string or another constant."""
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _attribute_is_pure(name: str, value: ast.expr, base: str, dataclass: bool, scope: Scope) -> bool:
    if base in _ENUMS and name in ("mro", "name", "value"):
        return False
    if base == "enum.StrEnum":
        return isinstance(value, ast.Constant) and isinstance(value.value, str)
    if base == "typing.TypedDict":
        return False
    if dataclass:
        return _is_hashable(value) or _is_field(value, scope)
    return _is_literal(value)


def _is_refused_method(name: str, base: str, dataclass: bool, names: list[str]) -> bool:
    """Whether a class of this kind may refuse to be made because of a method of this name."""
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


def _is_literal(node: ast.expr) -> bool:
    """Whether an expression is a constant, or a container of constants."""
    if isinstance(node, (ast.List, ast.Tuple)):
        return all(_is_literal(item) for item in node.elts)
    if isinstance(node, ast.Dict):
        keys = all(key is not None and _is_hashable(key) for key in node.keys)
        return keys and all(_is_literal(value) for value in node.values)
    if isinstance(node, ast.Set):
        return all(_is_hashable(item) for item in node.elts)
    return _is_constant(node)


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
