"""Decides whether an expression at a module's top level only names or builds a value.

Such an expression runs no code of the team's, changes nothing, and cannot fail. What is not known to be one acts.
"""

from __future__ import annotations

import ast
import builtins
import collections
import datetime
import decimal
import fractions
import math
import operator
import re
import textwrap
import uuid
from collections.abc import Callable
from typing import Any, Protocol

from kommuna.store.definitions.references import is_folder_of_file, is_path_of_file

GENERIC = frozenset({"list", "dict", "tuple", "set", "frozenset", "type"})
_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
    ast.LShift: operator.lshift,
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
}
_LARGE = 2**64
_LONG = 10_000
_CONSTANTS = {
    **{f"math.{name}": getattr(math, name) for name in ("inf", "nan", "pi", "e")},
    "datetime.UTC": datetime.UTC,
    "datetime.timezone.utc": datetime.UTC,
}
_CALLED = ("int", "float", "str", "bool", "complex", "range", "len", "object", "round", "max", "min", "sorted")
# These are called here with constants, to check that the call succeeds.
_MAKERS: dict[str, Callable[..., Any]] = {
    "datetime.date": datetime.date,
    "datetime.datetime": datetime.datetime,
    "datetime.time": datetime.time,
    "datetime.timedelta": datetime.timedelta,
    "decimal.Decimal": decimal.Decimal,
    "fractions.Fraction": fractions.Fraction,
    "uuid.UUID": uuid.UUID,
    "textwrap.dedent": textwrap.dedent,
    "collections.namedtuple": collections.namedtuple,
    **{name: getattr(builtins, name) for name in _CALLED},
}
_COLUMN_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.BitAnd, ast.BitOr)
_COLUMN_COMPARISONS = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)
_TEXT_METHODS = frozenset({"split", "splitlines", "strip", "lstrip", "rstrip", "upper", "lower", "title"})
_EMPTY = frozenset({"collections.Counter", "collections.OrderedDict", "collections.deque", "collections.defaultdict"})
_LOGGERS = ("logging.getLogger", "structlog.get_logger", "structlog.stdlib.get_logger")
_ALIASES = re.compile(r"(typing|collections\.abc)\.\w+")


class Scope(Protocol):
    """What is known about a module's names at one of its statements."""

    eager_annotations: bool

    def is_bound(self, name: str) -> bool:
        """Whether a name is certainly bound by now."""

    def is_builtin(self, name: str) -> bool:
        """Whether a name means Python's builtin."""

    def origin(self, node: ast.expr) -> str:
        """Returns the dotted library name that an expression certainly means: `functools.cache`; "" otherwise."""

    def is_class(self, node: ast.expr) -> bool:
        """Whether an expression certainly means a class of the bundle whose definition is pure."""

    def is_plain_class(self, node: ast.expr) -> bool:
        """Whether an expression certainly means such a class that does not affect its subclasses."""

    def base(self, node: ast.expr) -> str:
        """Returns the library class that such a class derives from; "" without one."""

    def assigned(self, name: str) -> tuple[ast.expr, Scope] | None:
        """Returns the expression that a name is certainly bound to, and its module; None if uncertain."""


def value_is_pure(node: ast.expr, scope: Scope) -> bool:
    """Whether an expression only names or builds a value."""
    if isinstance(node, ast.Name):
        return scope.is_bound(node.id) or scope.is_builtin(node.id)
    if isinstance(node, (ast.Tuple, ast.List)):
        return all(_item_is_pure(item, scope) for item in node.elts)
    if isinstance(node, ast.Set):
        return all(is_hashable(item, scope) for item in node.elts)
    if isinstance(node, ast.Dict):
        return all(
            _kind(value, scope) == "dict" if key is None else is_hashable(key, scope)
            for key, value in zip(node.keys, node.values, strict=True)
        ) and all(value_is_pure(value, scope) for value in node.values)
    if isinstance(node, ast.Lambda):
        defaults = [*node.args.defaults, *(default for default in node.args.kw_defaults if default is not None)]
        return all(value_is_pure(default, scope) for default in defaults)
    if isinstance(node, ast.Call) and _call_is_pure(node, scope):
        return True
    if isinstance(node, ast.Attribute) and scope.origin(node):
        return True
    if isinstance(node, ast.Subscript) and _is_alias(node.value, scope):
        return annotation_is_pure(node, scope)
    if isinstance(node, ast.BinOp) and _kind(node, scope):
        return value_is_pure(node.left, scope) and value_is_pure(node.right, scope)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and annotation_is_pure(node, scope):
        return True
    return _is_place(node, scope) or _is_column_expression(node, scope) or is_constant(node, scope)


def is_hashable(node: ast.expr, scope: Scope) -> bool:
    """Whether an expression is a constant, or a tuple of constants."""
    if isinstance(node, ast.Tuple):
        return all(is_hashable(item, scope) for item in node.elts)
    return is_constant(node, scope)


def is_literal(node: ast.expr, scope: Scope) -> bool:
    """Whether an expression is a constant, or a container of constants."""
    if isinstance(node, (ast.List, ast.Tuple)):
        return all(is_literal(item, scope) for item in node.elts)
    if isinstance(node, ast.Dict):
        keys = all(key is not None and is_hashable(key, scope) for key in node.keys)
        return keys and all(is_literal(value, scope) for value in node.values)
    if isinstance(node, ast.Set):
        return all(is_hashable(item, scope) for item in node.elts)
    return is_constant(node, scope)


def is_constant(node: ast.expr, scope: Scope) -> bool:
    """Whether an expression is arithmetic on constants with a small result."""
    try:
        constant(node, scope)
    except Exception:  # including errors of the arithmetic
        return False
    return True


def constant(node: ast.expr, scope: Scope) -> Any:
    """Returns the value of arithmetic on constants; raises if it is something else, fails or grows large."""
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Name) and (assigned := scope.assigned(node.id)):
        return constant(*assigned)
    if isinstance(node, ast.Attribute) and scope.origin(node) in _CONSTANTS:
        return _CONSTANTS[scope.origin(node)]
    if isinstance(node, ast.JoinedStr):
        return "".join(_formatted(part, scope) for part in node.values)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        value = constant(node.operand, scope)
        if isinstance(value, (int, float, complex)):
            return -value if isinstance(node.op, ast.USub) else +value
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        left, right = constant(node.left, scope), constant(node.right, scope)
        numbers = all(isinstance(v, (int, float)) and abs(v) < _LARGE for v in (left, right))
        grows = isinstance(node.op, (ast.Pow, ast.LShift))
        texts = isinstance(left, (str, bytes)) and isinstance(node.op, ast.Add) and type(left) is type(right)
        repeats = isinstance(left, str) and isinstance(node.op, ast.Mult) and isinstance(right, int)
        repeated = repeats and len(left) * right < _LONG
        if (numbers and not (grows and abs(right) > 64)) or texts or repeated:
            return _OPERATORS[type(node.op)](left, right)
    raise ValueError("not a constant")


def _formatted(part: ast.expr, scope: Scope) -> str:
    if not isinstance(part, ast.FormattedValue):
        return str(constant(part, scope))
    value = constant(part.value, scope)
    if part.conversion != -1 or part.format_spec is not None:
        raise ValueError("not a constant")
    return format(value)


def _item_is_pure(node: ast.expr, scope: Scope) -> bool:
    if isinstance(node, ast.Starred):
        return _kind(node.value, scope) in ("list", "tuple", "dict", "set") and value_is_pure(node.value, scope)
    return value_is_pure(node, scope)


def _kind(node: ast.expr, scope: Scope) -> str:
    """Returns the builtin container type that an expression certainly evaluates to; "" if none."""
    for kind, nodes in (("list", ast.List), ("tuple", ast.Tuple), ("dict", ast.Dict), ("set", ast.Set)):
        if isinstance(node, nodes):
            return kind
    if isinstance(node, ast.Name) and (assigned := scope.assigned(node.id)):
        return _kind(*assigned)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and scope.is_builtin(node.func.id):
        return node.func.id if node.func.id in ("list", "tuple", "dict", "set") else ""
    if isinstance(node, ast.BinOp):
        kinds = {_kind(node.left, scope), _kind(node.right, scope)}
        joined = ("list", "tuple") if isinstance(node.op, ast.Add) else ("dict", "set")
        if len(kinds) == 1 and kinds <= set(joined) and isinstance(node.op, (ast.Add, ast.BitOr)):
            return kinds.pop()
    return ""


def _call_is_pure(node: ast.Call, scope: Scope) -> bool:
    origin = scope.origin(node.func)
    if origin in _LOGGERS or origin == "typing.TypeVar":
        names = [is_text(argument) or _is_own_name(argument, scope) for argument in node.args]
        return not node.keywords and (names == [True] or (not names and origin.startswith("structlog.")))
    if origin == "typing.NewType":
        return not node.keywords and len(node.args) == 2 and is_text(node.args[0]) and _is_type(node.args[1], scope)
    if origin == "re.compile":
        return _pattern_compiles(node, scope)
    if origin == "pathlib.Path":
        return not node.keywords and all(is_text(argument) for argument in node.args)
    if origin in _EMPTY:
        factory = origin == "collections.defaultdict" and len(node.args) == 1 and _is_factory(node.args[0], scope)
        return not node.keywords and (factory or not node.args)
    if origin == "len" and len(node.args) == 1 and _kind(node.args[0], scope):
        return not node.keywords and value_is_pure(node.args[0], scope)
    if origin in _MAKERS:
        return _makes(_MAKERS[origin], node, scope)
    if isinstance(node.func, ast.Attribute) and node.func.attr in _TEXT_METHODS and is_text(node.func.value):
        return _makes(getattr(node.func.value.value, node.func.attr), node, scope)  # type: ignore[attr-defined]
    if isinstance(node.func, ast.Name) and node.func.id in GENERIC - {"type"} and scope.is_builtin(node.func.id):
        if node.func.id == "dict" and not node.args:
            return all(keyword.arg and value_is_pure(keyword.value, scope) for keyword in node.keywords)
        if node.keywords or len(node.args) > 1:
            return False
        if not node.args:
            return True
        argument = node.args[0]
        if node.func.id == "dict":
            return isinstance(argument, ast.Dict) and value_is_pure(argument, scope)
        if node.func.id in ("list", "tuple") and _kind(argument, scope):
            return value_is_pure(argument, scope)
        literal = isinstance(argument, (ast.Tuple, ast.List, ast.Set))
        return literal and all(is_hashable(item, scope) for item in argument.elts)  # type: ignore[attr-defined]
    return False


def _is_factory(node: ast.expr, scope: Scope) -> bool:
    return isinstance(node, ast.Name) and scope.is_builtin(node.id) and callable(getattr(builtins, node.id))


def _makes(maker: Callable[..., Any], node: ast.Call, scope: Scope) -> bool:
    """Whether a call with constants succeeds."""

    def argument(given: ast.expr) -> Any:
        if isinstance(given, (ast.List, ast.Tuple)):
            return [constant(item, scope) for item in given.elts]
        return constant(given, scope)

    try:
        maker(*map(argument, node.args), **{str(k.arg): argument(k.value) for k in node.keywords})
    except Exception:
        return False
    return True


def _is_place(node: ast.expr, scope: Scope) -> bool:
    """Whether an expression is a path relative to the module, such as `Path(__file__).parent / "sql"`."""
    if isinstance(node, ast.Name) and (assigned := scope.assigned(node.id)):
        return _is_place(*assigned)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
        return _is_place(node.left, scope) and is_text(node.right)
    if isinstance(node, ast.Attribute) and node.attr == "parent":
        inner = next((n for n in ast.walk(node.value) if isinstance(n, ast.Call) and n.args), None)
        if is_path_of_file(node.value) and inner is not None:
            return scope.origin(inner.func) == "pathlib.Path"
        return _is_place(node.value, scope)
    if isinstance(node, ast.Call) and scope.origin(node.func) == "pathlib.Path":
        return not node.keywords and all(is_text(argument) for argument in node.args)
    return isinstance(node, ast.Call) and is_folder_of_file(node) and scope.origin(node.func) == "os.path.dirname"


def _is_column_expression(node: ast.expr, scope: Scope) -> bool:
    """Whether an expression is a Polars expression made of columns and operators only."""
    if isinstance(node, ast.Name) and (assigned := scope.assigned(node.id)):
        return _is_column_expression(*assigned)
    if isinstance(node, ast.Call):
        origin = scope.origin(node.func)
        columns = origin == "polars.col" and bool(node.args) and all(map(is_text, node.args))
        value = origin == "polars.lit" and len(node.args) == 1 and _is_operand(node.args[0], scope)
        return not node.keywords and (columns or value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Invert, ast.USub)):
        return _is_column_expression(node.operand, scope)
    if isinstance(node, ast.BinOp) and isinstance(node.op, _COLUMN_OPERATORS):
        sides = [node.left, node.right]
    elif isinstance(node, ast.Compare) and isinstance(node.ops[0], _COLUMN_COMPARISONS) and len(node.ops) == 1:
        sides = [node.left, *node.comparators]
    else:
        return False
    based = [side for side in sides if _is_column_expression(side, scope)]
    return bool(based) and all(side in based or _is_operand(side, scope) for side in sides)


def _is_operand(node: ast.expr, scope: Scope) -> bool:
    return is_constant(node, scope) and isinstance(constant(node, scope), (int, float, str))


def is_number(node: ast.expr, scope: Scope) -> bool:
    """Whether an expression is a whole number."""
    return is_constant(node, scope) and isinstance(constant(node, scope), int)


def is_text(node: ast.expr) -> bool:
    """Whether an expression is a string literal."""
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
        re.compile(constant(node.args[0], scope), flags)
    except Exception:
        return False
    return True


def annotation_is_pure(node: ast.expr, scope: Scope) -> bool:
    """Whether an annotation or type alias only names types."""
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
            return is_hashable(node.slice, scope)
        return _is_generic(node.value, scope) and _parameters_are_pure(node.slice, scope)
    return False


def _is_alias(node: ast.expr, scope: Scope) -> bool:
    """Whether an expression before brackets is a generic type."""
    if isinstance(node, ast.Name) and scope.is_builtin(node.id):
        return node.id in GENERIC
    return _ALIASES.fullmatch(scope.origin(node)) is not None


def _is_type(node: ast.expr, scope: Scope) -> bool:
    """Whether an annotation certainly supports `|`."""
    if isinstance(node, ast.Constant):
        return node.value is None
    if isinstance(node, ast.Name) and scope.is_builtin(node.id):
        return isinstance(getattr(builtins, node.id), type)
    if isinstance(node, (ast.BinOp, ast.Subscript)):
        return annotation_is_pure(node, scope)
    return bool(scope.origin(node)) or scope.is_class(node)


def _is_generic(node: ast.expr, scope: Scope) -> bool:
    if isinstance(node, ast.Name) and scope.is_builtin(node.id):
        return node.id in GENERIC
    return bool(scope.origin(node))


def _parameters_are_pure(node: ast.expr, scope: Scope) -> bool:
    if isinstance(node, (ast.Tuple, ast.List)):
        return all(_parameters_are_pure(item, scope) for item in node.elts)
    return annotation_is_pure(node, scope)
