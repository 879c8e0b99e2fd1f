"""`Gate`: a promotion rule over metrics, as a small expression that can only compare and calculate.

    f1_macro >= 0.7 and f1_macro >= champion.f1_macro - 0.01

Allowed are numbers, metric names (dotted: `champion.f1_macro`), `+ - * /`, comparisons, `and`, `or`, `not` and
parentheses. Where there is no champion yet, what is said about `champion.*` counts as unknown and does not stand in
the way of the first model. A metric that is not a number makes the gate refuse, whatever it says.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from kommuna.errors import GateError, nearest

CHAMPION = "champion."
BASELINE = "baseline."
# What the evaluation step leaves: of the model itself, and of each model that it is compared with.
COMPARED = ("accuracy", "f1_macro", "f1_micro", "precision_macro", "recall_macro")
EVALUATED = (
    *COMPARED, "accuracy_high", "accuracy_low", "automatic", "coverage", "ece", "gold_without_tag", "rows",
    "tags_never_seen", "text_overlap", "without_tag",
)  # fmt: skip
OTHERS = (CHAMPION, *(f"{BASELINE}{name}." for name in ("dev_only", "label_model", "majority_class")))
EVALUATION_METRICS = (*EVALUATED, *(f"{other}{name}" for other in OTHERS for name in COMPARED))
MAX_CHARACTERS = 1000
MAX_NODES = 200
_MEND = "write comparisons of metrics, as in: f1_macro >= 0.7 and f1_macro >= champion.f1_macro - 0.01"

_COMPARE: dict[type[ast.cmpop], tuple[str, Callable[[float, float], bool], str]] = {
    ast.Lt: ("<", operator.lt, ">="),
    ast.LtE: ("<=", operator.le, ">"),
    ast.Gt: (">", operator.gt, "<="),
    ast.GtE: (">=", operator.ge, "<"),
    ast.Eq: ("==", operator.eq, "!="),
    ast.NotEq: ("!=", operator.ne, "=="),
}
_CALCULATE: dict[type[ast.operator], tuple[str, Callable[[float, float], float]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
}


@dataclass(frozen=True)
class Verdict:
    """What a gate says of one model.

    Attributes:
        holds: whether the model may be promoted.
        missed: each comparison that failed, with its numbers: `f1_macro 0.68 < 0.7`.
        first: True where the expression asks for a champion and there is none yet.
    """

    holds: bool
    missed: tuple[str, ...] = ()
    first: bool = False

    @property
    def reason(self) -> str:
        """One line for people."""
        if not self.holds:
            return "the gate does not hold: " + ("; ".join(self.missed) or "the expression is false")
        return "the gate holds; there is no champion yet to compare with" if self.first else "the gate holds"


class Gate:
    """A parsed gate expression.

    Args:
        expression: as the team wrote it.
    Raises:
        GateError: bad syntax, or a construct that a gate does not have; names the place.

    >>> Gate("f1_macro >= 0.7").judge({"f1_macro": 0.68}).missed
    ('f1_macro 0.68 < 0.7',)
    """

    def __init__(self, expression: str) -> None:
        self.expression = expression.strip()
        if not self.expression:
            raise GateError("the gate is empty", fix=_MEND)
        if len(self.expression) > MAX_CHARACTERS:
            raise GateError(f"the gate has {len(self.expression)} characters, more than {MAX_CHARACTERS}", fix=_MEND)
        comment = self.expression.find("#")
        if comment >= 0:  # on the one line below it would hide the lines that follow it
            raise GateError(
                f"the gate has '#' at {self._place(comment)}: a gate has no comments", where=self.expression, fix=_MEND
            )
        # A gate from YAML may stand on several lines; one line keeps every character at its place.
        self._line = "".join(" " if c.isspace() else c for c in self.expression)
        try:
            tree = ast.parse(self._line, mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise self._bad_syntax(error) from None
        self._root = tree.body
        if sum(1 for _ in ast.walk(self._root)) > MAX_NODES:
            raise GateError(f"the gate has more than {MAX_NODES} parts", where=self.expression[:80], fix=_MEND)
        self._check(self._root, logical=True)

    @property
    def names(self) -> tuple[str, ...]:
        """Every metric that the expression names, in order of appearance."""
        found = [_name(node) for node in ast.walk(self._root) if isinstance(node, ast.Name | ast.Attribute)]
        # ast.walk meets `champion` inside `champion.f1_macro` as well: only whole names count.
        inner = {
            _name(node.value)
            for node in ast.walk(self._root)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute)
        }
        return tuple(dict.fromkeys(name for name in found if name not in inner))

    def judge(self, metrics: Mapping[str, float]) -> Verdict:
        """Whether the expression holds for these metrics.

        Args:
            metrics: flat, with dotted names; without any `champion.*` there is no champion yet.
        Raises:
            GateError: the expression names a metric that is not there, or divides by zero.
        """
        self.check_names([*metrics, *_of_a_champion(metrics)])
        missed = [f"{name} is {metrics[name]}" for name in self.names if not math.isfinite(metrics.get(name, 0.0))]
        if missed:
            return Verdict(holds=False, missed=tuple(missed))
        result = self._truth(self._root, metrics, missed, wanted=True)
        return Verdict(holds=result is not False, missed=tuple(missed) if result is False else (), first=result is None)

    def check_names(self, known: Collection[str]) -> None:
        """Refuses a metric that is none of those known.

        Raises:
            GateError: names the metric, the nearest known one, and those there are.
        """
        for name in self.names:
            if name in known:
                continue
            prefix, _, figure = name.rpartition(".")
            own = [one.removeprefix(f"{prefix}.") for one in known if one.startswith(f"{prefix}.")]
            if prefix and own and not nearest(figure, own):
                fix = f"{prefix} is compared by: {', '.join(sorted(own))}"
            else:
                fix = f"metrics are: {', '.join(sorted(known)[:20])}"
            raise GateError(
                f"the gate names an unknown metric '{name}'{nearest(name, known)}", where=self.expression, fix=fix
            )

    def _truth(self, node: ast.expr, metrics: Mapping[str, float], missed: list[str], *, wanted: bool) -> bool | None:
        """Kleene's three-valued logic: None is what cannot be said without a champion."""
        if isinstance(node, ast.BoolOp):
            values = [self._truth(value, metrics, missed, wanted=wanted) for value in node.values]
            decisive = isinstance(node.op, ast.Or)
            if decisive in values:
                return decisive
            return None if None in values else not decisive
        if isinstance(node, ast.UnaryOp):
            value = self._truth(node.operand, metrics, missed, wanted=not wanted)
            return None if value is None else not value
        assert isinstance(node, ast.Compare)
        sides = [node.left, *node.comparators]
        values_of = [self._number(side, metrics) for side in sides]
        result: bool | None = True
        for i, op in enumerate(node.ops):
            left, right = values_of[i], values_of[i + 1]
            if left is None or right is None:
                result = None if result else result
                continue
            sign, compare, opposite = _COMPARE[type(op)]
            true = compare(left, right)
            if true != wanted:
                shown = sign if true else opposite
                missed.append(f"{_shown(sides[i], left)} {shown} {_shown(sides[i + 1], right)}")
            if not true:
                result = False
        return result

    def _number(self, node: ast.expr, metrics: Mapping[str, float]) -> float | None:
        if isinstance(node, ast.Constant):
            assert isinstance(node.value, int | float)
            return float(node.value)
        if isinstance(node, ast.UnaryOp):
            value = self._number(node.operand, metrics)
            return None if value is None else -value if isinstance(node.op, ast.USub) else value
        if isinstance(node, ast.BinOp):
            left, right = self._number(node.left, metrics), self._number(node.right, metrics)
            if left is None or right is None:
                return None
            try:
                result = _CALCULATE[type(node.op)][1](left, right)
            except ZeroDivisionError:
                raise GateError(f"the gate divides by zero: {ast.unparse(node)}", where=self.expression) from None
            if not math.isfinite(result):
                raise GateError(f"the gate calculates {result}: {ast.unparse(node)}", where=self.expression)
            return result
        value = metrics.get(_name(node))
        return None if value is None else float(value)

    def _check(self, node: ast.expr, *, logical: bool) -> None:
        """Refuses all that is not on the list, before anything is calculated."""
        if isinstance(node, ast.BoolOp) and logical:
            for value in node.values:
                self._check(value, logical=True)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not) and logical:
            self._check(node.operand, logical=True)
        elif isinstance(node, ast.Compare) and logical:
            for op in node.ops:
                if type(op) not in _COMPARE:
                    raise self._forbidden(node, "only < <= > >= == != compare")
            for side in (node.left, *node.comparators):
                self._check(side, logical=False)
        elif isinstance(node, ast.BinOp) and not logical:
            if type(node.op) not in _CALCULATE:
                raise self._forbidden(node, "only + - * / calculate")
            self._check(node.left, logical=False)
            self._check(node.right, logical=False)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd) and not logical:
            self._check(node.operand, logical=False)
        elif _is_number(node) and not logical:
            assert isinstance(node, ast.Constant)
            assert isinstance(node.value, int | float)
            if not abs(node.value) <= 1e15:  # nor infinity, nor an integer that no float holds
                raise self._forbidden(node, "the number is too large")
        elif isinstance(node, ast.Name | ast.Attribute) and not logical:
            if not _name(node):
                raise self._forbidden(node, "only metrics have dotted names")
        elif logical and isinstance(node, ast.Name | ast.Attribute | ast.BinOp | ast.Constant):
            raise self._forbidden(node, "a gate is a comparison, and this is none")
        else:
            raise self._forbidden(node, "a gate has no such construct")

    def _forbidden(self, node: ast.expr, why: str) -> GateError:
        before = len(self._line.encode()[: node.col_offset].decode(errors="ignore"))  # ast counts bytes
        part = (ast.get_source_segment(self._line, node) or "")[:60]
        return GateError(f"the gate has '{part}' at {self._place(before)}: {why}", where=self.expression, fix=_MEND)

    def _bad_syntax(self, error: Exception) -> GateError:
        if not isinstance(error, SyntaxError) or error.offset is None:
            return GateError(f"the gate cannot be read: {error}", where=self.expression[:80], fix=_MEND)
        place = self._place(error.offset - 1)
        return GateError(f"the gate cannot be read at {place}: {error.msg}", where=self.expression, fix=_MEND)

    def _place(self, before: int) -> str:
        """Line and character, counted from one, of what has so many characters before it."""
        text = self.expression[: max(0, before)]
        line, character = text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1
        return f"line {line}, character {character}" if "\n" in self.expression else f"character {character}"


def _readable(expression: str) -> str:
    try:
        Gate(expression)
    except GateError as error:
        raise ValueError(error.what) from None
    return expression


GateExpression = Annotated[str, AfterValidator(_readable)]  # of a step's parameter


def _of_a_champion(metrics: Mapping[str, float]) -> list[str]:
    """The champion's metrics that would be known if there were one; none where there is one.

    A champion is compared by the figures that the baselines are compared by. Where there are no baselines, a team's own
    step made the metrics, and may compare by any.
    """
    if any(name.startswith(CHAMPION) for name in metrics):
        return []
    compared = {name.rpartition(".")[2] for name in metrics if name.startswith(BASELINE)}
    known = {*compared, *COMPARED} if compared else metrics
    return [f"{CHAMPION}{name}" for name in metrics if "." not in name and name in known]


def _name(node: ast.expr) -> str:
    """The dotted name, or nothing where the node is more than a name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = _name(node.value)
        return f"{head}.{node.attr}" if head else ""
    return ""


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)  # not a bool, which is an int too


def _shown(node: ast.expr, value: float) -> str:
    """A side of a comparison with its value: `f1_macro 0.68`, or the number alone."""
    number = f"{value:.4g}"
    return number if isinstance(node, ast.Constant) else f"{ast.unparse(node)} {number}"
