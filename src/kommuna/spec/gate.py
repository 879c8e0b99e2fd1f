"""`Gate`: a promotion rule over metrics, as a small expression that can only compare and calculate.

    f1_macro >= 0.7 and f1_macro >= champion.f1_macro - 0.01

Allowed are numbers, metric names (dotted: `champion.f1_macro`), `+ - * /`, comparisons, `and`, `or`, `not` and
parentheses. Where there is no champion yet, comparisons with `champion.*` are unknown and do not block the
first model. A metric that is NaN or infinite always fails the gate.
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
# Metrics of the evaluation step: of the model itself, and of each model that it is compared with.
COMPARED = ("accuracy", "f1_macro", "f1_micro", "precision_macro", "recall_macro")
EVALUATED = (
    *COMPARED, "accuracy_high", "accuracy_low", "automatic", "coverage", "ece", "gold_without_tag", "rows",
    "tags_never_seen", "text_overlap", "without_tag",
)  # fmt: skip
OTHERS = (CHAMPION, *(f"{BASELINE}{name}." for name in ("dev_only", "label_model", "majority_class")))
EVALUATION_METRICS = (*EVALUATED, *(f"{other}{name}" for other in OTHERS for name in COMPARED))
MAX_CHARACTERS = 1000
MAX_NODES = 200
_FIX = "write comparisons of metrics, as in: f1_macro >= 0.7 and f1_macro >= champion.f1_macro - 0.01"

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
    """The decision of a gate on one model.

    Attributes:
        holds: whether the model may be promoted.
        missed: each comparison that failed, with its numbers: `f1_macro 0.68 < 0.7`.
        first: True where the expression refers to a champion and there is none yet.
    """

    holds: bool
    missed: tuple[str, ...] = ()
    first: bool = False

    @property
    def reason(self) -> str:
        """One line that explains the decision."""
        if not self.holds:
            return "the gate does not hold: " + ("; ".join(self.missed) or "the expression is false")
        return "the gate holds; there is no champion yet to compare with" if self.first else "the gate holds"


class Gate:
    """A parsed gate expression.

    Args:
        expression: the text that the team wrote.

    Raises:
        GateError: bad syntax, or a construct that gates do not allow. The message names the place.

    >>> Gate("f1_macro >= 0.7").judge({"f1_macro": 0.68}).missed
    ('f1_macro 0.68 < 0.7',)
    """

    def __init__(self, expression: str) -> None:
        self.expression = expression.strip()
        if not self.expression:
            raise GateError("the gate is empty", fix=_FIX)
        if len(self.expression) > MAX_CHARACTERS:
            raise GateError(f"the gate has {len(self.expression)} characters, more than {MAX_CHARACTERS}", fix=_FIX)
        comment = self.expression.find("#")
        if comment >= 0:  # once joined to one line, it would hide the lines that follow it
            raise GateError(
                f"the gate has '#' at {self._place(comment)}: a gate has no comments", where=self.expression, fix=_FIX
            )
        # A gate from YAML may have several lines. Joined to one line, every character keeps its position.
        self._line = "".join(" " if c.isspace() else c for c in self.expression)
        try:
            tree = ast.parse(self._line, mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise self._bad_syntax(error) from None
        self._root = tree.body
        if sum(1 for _ in ast.walk(self._root)) > MAX_NODES:
            raise GateError(f"the gate has more than {MAX_NODES} parts", where=self.expression[:80], fix=_FIX)
        self._check(self._root, logical=True)

    @property
    def names(self) -> tuple[str, ...]:
        """Every metric in the expression, in order of appearance."""
        found = [_name(node) for node in ast.walk(self._root) if isinstance(node, ast.Name | ast.Attribute)]
        # ast.walk also visits `champion` inside `champion.f1_macro`: only whole names count.
        inner = {
            _name(node.value)
            for node in ast.walk(self._root)
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name | ast.Attribute)
        }
        return tuple(dict.fromkeys(name for name in found if name not in inner))

    def judge(self, metrics: Mapping[str, float]) -> Verdict:
        """Evaluates the expression for given metrics.

        Args:
            metrics: values by dotted name. Without any `champion.*` there is no champion yet.

        Raises:
            GateError: the expression names an unknown metric, or divides by zero.
        """
        self.check_names([*metrics, *_of_a_champion(metrics)])
        missed = [f"{name} is {metrics[name]}" for name in self.names if not math.isfinite(metrics.get(name, 0.0))]
        if missed:
            return Verdict(holds=False, missed=tuple(missed))
        result = self._truth(self._root, metrics, missed, wanted=True)
        return Verdict(holds=result is not False, missed=tuple(missed) if result is False else (), first=result is None)

    def check_names(self, known: Collection[str]) -> None:
        """Checks that all metrics in the expression are known.

        Args:
            known: the names of the metrics that can be compared.

        Raises:
            GateError: a metric is unknown. The message names it, the nearest known one, and the known metrics.
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
        """Evaluates in Kleene's three-valued logic: None is unknown, because there is no champion."""
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
                raise GateError(f"the gate's result is {result}: {ast.unparse(node)}", where=self.expression)
            return result
        value = metrics.get(_name(node))
        return None if value is None else float(value)

    def _check(self, node: ast.expr, *, logical: bool) -> None:
        """Rejects every construct that is not allowed, before anything is calculated."""
        if isinstance(node, ast.BoolOp) and logical:
            for value in node.values:
                self._check(value, logical=True)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not) and logical:
            self._check(node.operand, logical=True)
        elif isinstance(node, ast.Compare) and logical:
            for op in node.ops:
                if type(op) not in _COMPARE:
                    raise self._forbidden(node, "the operators for comparisons are < <= > >= == !=")
            for side in (node.left, *node.comparators):
                self._check(side, logical=False)
        elif isinstance(node, ast.BinOp) and not logical:
            if type(node.op) not in _CALCULATE:
                raise self._forbidden(node, "the operators for arithmetic are + - * /")
            self._check(node.left, logical=False)
            self._check(node.right, logical=False)
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd) and not logical:
            self._check(node.operand, logical=False)
        elif _is_number(node) and not logical:
            assert isinstance(node, ast.Constant)
            assert isinstance(node.value, int | float)
            if not abs(node.value) <= 1e15:  # also rejects infinity, and integers too large for a float
                raise self._forbidden(node, "the number is too large")
        elif isinstance(node, ast.Name | ast.Attribute) and not logical:
            if not _name(node):
                raise self._forbidden(node, "only metrics have dotted names")
        elif logical and isinstance(node, ast.Name | ast.Attribute | ast.BinOp | ast.Constant):
            raise self._forbidden(node, "a gate is a comparison, and this is not one")
        else:
            raise self._forbidden(node, "a gate has no such construct")

    def _forbidden(self, node: ast.expr, why: str) -> GateError:
        before = len(self._line.encode()[: node.col_offset].decode(errors="ignore"))  # ast counts bytes
        part = (ast.get_source_segment(self._line, node) or "")[:60]
        return GateError(f"the gate has '{part}' at {self._place(before)}: {why}", where=self.expression, fix=_FIX)

    def _bad_syntax(self, error: Exception) -> GateError:
        if not isinstance(error, SyntaxError) or error.offset is None:
            return GateError(f"the gate cannot be read: {error}", where=self.expression[:80], fix=_FIX)
        place = self._place(error.offset - 1)
        return GateError(f"the gate cannot be read at {place}: {error.msg}", where=self.expression, fix=_FIX)

    def _place(self, before: int) -> str:
        """Describes the position after a number of characters as line and character, counted from one."""
        text = self.expression[: max(0, before)]
        line, character = text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1
        return f"line {line}, character {character}" if "\n" in self.expression else f"character {character}"


def _readable(expression: str) -> str:
    try:
        Gate(expression)
    except GateError as error:
        raise ValueError(error.what) from None
    return expression


GateExpression = Annotated[str, AfterValidator(_readable)]  # the type of a step's parameter


def _of_a_champion(metrics: Mapping[str, float]) -> list[str]:
    """Returns the champion's metrics that a gate may name while there is no champion; none where there is one.

    Champion and baselines have the same metrics. Without baselines, the metrics come from a team's own step, and a gate
    may compare any of them.
    """
    if any(name.startswith(CHAMPION) for name in metrics):
        return []
    compared = {name.rpartition(".")[2] for name in metrics if name.startswith(BASELINE)}
    known = {*compared, *COMPARED} if compared else metrics
    return [f"{CHAMPION}{name}" for name in metrics if "." not in name and name in known]


def _name(node: ast.expr) -> str:
    """Returns the dotted name, or an empty string where the node is more than a name."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = _name(node.value)
        return f"{head}.{node.attr}" if head else ""
    return ""


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)  # not bool, a subclass of int


def _shown(node: ast.expr, value: float) -> str:
    """Formats a side of a comparison with its value: `f1_macro 0.68`, or the number alone."""
    number = f"{value:.4g}"
    return number if isinstance(node, ast.Constant) else f"{ast.unparse(node)} {number}"
