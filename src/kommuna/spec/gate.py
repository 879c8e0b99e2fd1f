"""`Gate`: a promotion rule over metrics, as a small expression that can only compare and calculate.

    f1_macro >= 0.7 and f1_macro >= champion.f1_macro - 0.01

Allowed are numbers, metric names (dotted: `champion.f1_macro`), `+ - * /`, comparisons, `and`, `or`, `not` and
parentheses. A tag has its own figures: `f1.fees >= 0.6`, `f1["lost card"] >= champion.f1["lost card"] - 0.1`, and
`max_drop(f1.*) <= 0.2` bounds the largest fall of any tag. A slice of gold has its accuracy (`accuracy.chat >= 0.7`),
and `worst_slice.accuracy >= 0.6` is about the worst slice with enough rows. Where there is no champion yet, comparisons
with `champion.*` are unknown and do not block the first model. Where the champion lacks a tag of gold, both sides of a
comparison are about the tags that both know. A metric that is NaN or infinite always fails the gate.
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

from kommuna.errors import GateError, nearest

CHAMPION = "champion."
BASELINE = "baseline."
SHARED = "shared."  # a metric on the tags that the champion knows, where it lacks one of gold
# Metrics of the evaluation step: of the model itself, and of each model that it is compared with.
COMPARED = ("accuracy", "f1_macro", "f1_micro", "precision_macro", "recall_macro")
EVALUATED = (
    *COMPARED, "accepted", "accepted_precision", "accuracy_high", "accuracy_low", "automatic", "coverage", "ece",
    "ece_before", "gold_without_tag", "rows", "tags_fallen", "tags_never_seen", "text_overlap", "without_tag",
    "worst_slice.accuracy", "worst_tag.f1",
)  # fmt: skip
OTHERS = (CHAMPION, *(f"{BASELINE}{name}." for name in ("dev_only", "label_model", "majority_class")))
EVALUATION_METRICS = (*EVALUATED, *(f"{other}{name}" for other in OTHERS for name in COMPARED))
# Figures of one tag, or of a slice, by its name: of the model, and of the champion.
_OF_A_TAG = re.compile(r"(?:champion\.f1|f1|precision|recall)\.(?P<tag>.+)", re.DOTALL)
_OF_A_SLICE = re.compile(r"(?:champion\.)?accuracy\.\w+")
MAX_DROP = "max_drop"
_STAR = "\u01c3"  # stands for the star of `f1.*`, which Python cannot parse; one character, so that positions stay
_STARS = re.compile(r"(?<=\.)\*(?=\s*\))")
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
        self._line = _STARS.sub(_STAR, "".join(" " if c.isspace() else c for c in self.expression))
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
        return tuple(dict.fromkeys(_names(self._root)))

    @property
    def tag_figures(self) -> tuple[str, ...]:
        """The figures of single tags in the expression; which tags there are is known once a model is evaluated."""
        return tuple(name for name in self.names if _OF_A_TAG.fullmatch(name))

    @property
    def slice_figures(self) -> tuple[str, ...]:
        """The figures of single slices in the expression."""
        return tuple(name for name in self.names if _OF_A_SLICE.fullmatch(name))

    @property
    def names_tags(self) -> bool:
        """Whether the expression itself says how far single tags may fall."""
        calls = any(isinstance(node, ast.Call) for node in ast.walk(self._root))
        return calls or bool(self.tag_figures) or not {"tags_fallen", "worst_tag.f1"}.isdisjoint(self.names)

    def judge(self, metrics: Mapping[str, float]) -> Verdict:
        """Evaluates the expression for given metrics.

        Args:
            metrics: values by dotted name. Without any `champion.*` there is no champion yet.

        Raises:
            GateError: the expression names an unknown metric, or divides by zero.
        """
        # A champion may lack a tag, or not be there.
        tags = [f"{CHAMPION}{name}" for name in metrics if name.startswith(("f1.", "accuracy."))]
        self.check_names([*metrics, *_of_a_champion(metrics), *tags])
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
        fair = _on_shared_tags(sides, metrics)
        values_of = [self._number(side, fair or metrics) for side in sides]
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
                where = " on the tags that the champion knows" if fair else ""
                missed.append(f"{_shown(sides[i], left)} {shown} {_shown(sides[i + 1], right)}{where}")
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
        if isinstance(node, ast.Call):
            return max(_drops(metrics).values(), default=None)
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
        elif isinstance(node, ast.Call) and not logical and _name(node.func) == MAX_DROP:
            if node.keywords or [_name(argument) for argument in node.args] != [f"f1.{_STAR}"]:
                raise self._forbidden(node, f"the largest fall of a tag is {MAX_DROP}(f1.*)")
        elif isinstance(node, ast.Name | ast.Attribute | ast.Subscript) and not logical:
            if not _name(node) or _STAR in _name(node).split("."):
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
    """Returns the dotted name, or an empty string where the node is more than a name.

    A tag whose name is not a word is given as `f1["lost card"]`.
    """
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        head = _name(node.value)
        return f"{head}.{node.attr}" if head else ""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant) and isinstance(node.slice.value, str):
        head = _name(node.value)
        return f"{head}.{node.slice.value}" if head in ("f1", "precision", "recall", "champion.f1") else ""
    return ""


def _names(node: ast.AST) -> Iterator[str]:
    """Yields the whole names of metrics below a node."""
    if isinstance(node, ast.Call):
        return
    if isinstance(node, ast.expr) and (name := _name(node)):
        yield name
        return
    for part in ast.iter_child_nodes(node):
        yield from _names(part)


def _on_shared_tags(sides: Sequence[ast.expr], metrics: Mapping[str, float]) -> dict[str, float]:
    """Returns the metrics of a comparison with a champion that lacks a tag of gold; none if it is an ordinary one."""
    names = [name for side in sides for name in _names(side)]
    if not any(name.startswith(CHAMPION) for name in names) or not any(f"{SHARED}{name}" in metrics for name in names):
        return {}
    return {**metrics, **{name: metrics[f"{SHARED}{name}"] for name in names if f"{SHARED}{name}" in metrics}}


def _drops(metrics: Mapping[str, float]) -> dict[str, float]:
    """Returns by how much the F1 of each tag that both models know is below the champion's."""
    start = f"{CHAMPION}f1."
    found = {name.removeprefix(start): value for name, value in metrics.items() if name.startswith(start)}
    own = {tag: metrics.get(f"f1.{tag}", math.nan) for tag in found}
    return {tag: value - own[tag] for tag, value in found.items() if math.isfinite(value - own[tag])}


def _is_number(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)  # not bool, a subclass of int


def _shown(node: ast.expr, value: float) -> str:
    """Formats a side of a comparison with its value: `f1_macro 0.68`, or the number alone."""
    number = f"{value:.4g}"
    text = ast.unparse(node).replace(_STAR, "*")
    return number if isinstance(node, ast.Constant) else f"{text} {number}"
