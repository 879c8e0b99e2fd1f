"""Rewrites SQL, as a tree of tokens, to what Polars computes as the standard means it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal

from kommuna.errors import SpecError
from kommuna.steps.etl.sql.calls import ZERO_BIGINT, coalesce, decimal_places, divisor, position, round_half_up
from kommuna.steps.etl.sql.tokens import Node, end_of_case, end_of_operand, is_infix_not, split

MAX_CHARS = 2_000_000  # of the rewritten text; nested calls of ROUND grow sixfold per level

NUMBER = re.compile(r"-?\s*(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,2})?")
_ISO_LITERAL = re.compile(r"'\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?'")
STRPTIME_FIX = "write CAST(STRPTIME(column, '%Y-%m-%d') AS DATE), or declare the type where the table is read"
NAN = "CAST('NaN' AS DOUBLE)"
_SMALL_INTEGERS = {"tinyint", "smallint", "int", "integer", "int2", "int4", "mediumint"}
_INTEGERS = _SMALL_INTEGERS | {"bigint", "int8", "int64", "hugeint", "int128"}
_DECIMALS = {"decimal", "numeric", "dec"}
_DAY_UNITS = re.compile(r"(?:d|days?|w|weeks?|mo|mons?|months?|q|quarters?|y|years?)", re.IGNORECASE)
_TIME_TYPES = {"date", "timestamp", "datetime", "time", "timestamptz"}
# Functions that return integers of 8 to 32 bits, whose sums would wrap around.
_SMALL_RESULTS = {
    "length", "char_length", "character_length", "octet_length", "bit_length", "array_length", "extract", "date_part",
    "year", "month", "day", "hour", "minute", "second", "week", "quarter",
}  # fmt: skip
_CLOCK = {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp", "now", "today"}
_PARTIAL = {"sqrt", "ln", "log", "log2", "log10", "log1p", "asin", "acos", "pow", "power"}
_OPERAND_STARTS = (
    "and", "or", "not", "when", "then", "else", "select", "distinct", "all", "where", "having", "qualify", "on", "by",
)  # fmt: skip
_KEYWORDS = {
    *_OPERAND_STARTS, "in", "from", "join", "as", "over", "between", "like", "ilike", "union", "intersect", "except",
    "values", "using", "limit", "offset", "is", "exists", "with", "any", "some", "filter", "group", "order", "end",
    "natural",
}  # fmt: skip
_END_OF_SIDE = (_KEYWORDS - {"over", "filter"}) | {"within"}  # of a side of a comparison
_COMPARISONS = ("=", "==", "<>", "!=", "<", "<=", ">", ">=")
_TRUTH_TESTS = {
    ("true", False): "IS NOT DISTINCT FROM TRUE",
    ("true", True): "IS DISTINCT FROM TRUE",
    ("false", False): "IS NOT DISTINCT FROM FALSE",
    ("false", True): "IS DISTINCT FROM FALSE",
    ("unknown", False): "IS NULL",
    ("unknown", True): "IS NOT NULL",
}


@dataclass
class Rewriter:
    """One pass over a statement: rewrites it, and collects the places whose types have to be probed.

    A probe rewrites one place so that Polars can plan the statement only if an operand has a certain type. Places are
    the offsets of nodes in the statement.

    Attributes:
        round_only: casts whose operand is rounded; None means all casts that may need it.
        text_probe: a cast to a time; it can be planned only if its operand is a text.
        number_probe: a cast to a time; it can be planned only if its operand is a number.
        time_probe: a cast to an integer; it can be planned only if its operand is a time or an interval.
        days_probe: an interval of hours or less; it can be planned only next to a date.
        comparison_probe: a comparison; it can be planned only if its left side is a time or an interval and its right
            side a number, or the other way round if the flag is true.
        roundable: the casts found whose operand may have to be rounded.
        time_casts: the casts to dates and times found.
        hour_intervals: the intervals of hours or less found in a sum or difference.
        comparisons: the comparisons found whose sides may be a time and a number, with the text of both sides.
        cache: rewritten texts by their first and last node: the sides of comparisons are rewritten more than once.
    """

    round_only: set[int] | None = None
    text_probe: int | None = None
    number_probe: int | None = None
    time_probe: int | None = None
    days_probe: int | None = None
    comparison_probe: tuple[int, bool] | None = None
    roundable: set[int] = field(default_factory=set)
    time_casts: set[int] = field(default_factory=set)
    hour_intervals: set[int] = field(default_factory=set)
    comparisons: dict[int, tuple[str, str]] = field(default_factory=dict)
    cache: dict[tuple[int, int], str] = field(default_factory=dict)

    def rewrite(self, nodes: Sequence[Node]) -> str:
        """Returns the text of some adjacent nodes, rewritten for Polars.

        Raises:
            SpecError: Polars would compute something else and the SQL cannot be rewritten, or it grows too long.
        """
        if not nodes:
            return ""
        ends = (nodes[0].at, nodes[-1].at)
        if ends not in self.cache:
            text = self._rewrite(nodes)
            if len(text) > MAX_CHARS:
                raise SpecError("the SQL nests too many calls of ROUND or POSITION", fix="split it into steps")
            self.cache[ends] = text
        return self.cache[ends]

    def _rewrite(self, nodes: Sequence[Node]) -> str:
        out: list[str] = []
        i = left = betweens = 0  # `left`: index in `out` at which the left operand of IS or a comparison begins
        while i < len(nodes):
            node, at = nodes[i], i
            if node.is_mark("/", "//", "%") and i + 1 < len(nodes):
                text, i = self._division(nodes, i)
            elif node.is_word("is") and (test := self._truth_test(nodes, i)):
                how, i = test
                out[left:], text = [], f" (({''.join(out[left:]).strip()}) {how})"
            elif node.is_word("is") and (distinct := self._distinct_from(nodes, i, "".join(out[left:]).strip())):
                out[left:], text, i = [], distinct[0], distinct[1]
            elif (node.is_mark(*_COMPARISONS) or node.is_word("between")) and (
                comparison := self._comparison(nodes, i, "".join(out[left:]).strip())
            ):
                out[left:], text, i = [], comparison[0], comparison[1]
            else:
                text, i = self._primary(nodes, i)
                betweens += node.is_word("between")
            out.append(text)
            if betweens and node.is_word("and"):
                betweens -= 1
            elif node.is_mark(",") or (node.is_word(*_OPERAND_STARTS) and not is_infix_not(nodes, at)):
                left = len(out)
        return "".join(out)

    def _primary(self, nodes: Sequence[Node], i: int) -> tuple[str, int]:
        """Rewrites a name, call, literal, group or CASE with its suffixes, or copies one other token."""
        node = nodes[i]
        gap = " " if node.gap else ""
        i += 1
        if node.kind == "mark" or node.is_word(*_KEYWORDS):
            return gap + node.text, i
        if node.is_word("case"):
            i, text = self._case(nodes, i)
        elif node.kind == "group":
            text = f"({self.rewrite(node.inner)})"
        elif node.is_word("interval") and i < len(nodes) and nodes[i].kind in ("text", "number"):
            text, i = self._interval(nodes, i)
        elif node.is_word("date", "time", "timestamp") and i < len(nodes) and nodes[i].kind == "text":
            text, i = f"{node.text} {nodes[i].text}", i + 1
        else:
            text = node.text
            following = nodes[i] if i < len(nodes) else None
            if node.is_word(*_CLOCK) and (
                (following is not None and following.kind == "group" and not following.inner)
                or (text.lower() not in ("now", "today") and not (following is not None and following.is_mark(".")))
            ):
                raise SpecError(
                    f"{text.upper()} changes from run to run, but the result of a step is cached",
                    fix="in a DAG, write the run's date into the SQL: DATE '{{ ds }}'; for rules, make it a column",
                )
            if node.kind == "number" and math.isinf(float(text)):
                raise SpecError(f"{text[:40]} is out of range", fix="the largest number is 1.8e308")
            while node.kind in ("word", "name") and i + 1 < len(nodes) and nodes[i].is_mark("."):
                node = nodes[i + 1]
                text, i = f"{text}.{node.text}", i + 2
            if node.kind in ("word", "name") and i < len(nodes) and nodes[i].kind == "group":
                text, i = self._call(text, nodes[i]), i + 1
        return self._suffixes(gap, text, nodes, i, node.kind == "text")

    def _interval(self, nodes: Sequence[Node], i: int) -> tuple[str, int]:
        """Reads an interval literal whose amount is node `i`; records it if it adds hours or less to something."""
        start, at, text = i - 1, nodes[i].at, f"INTERVAL {nodes[i].text}"
        units = re.findall(r"[^\W\d_]+", nodes[i].text)
        i += 1
        if not units and i < len(nodes) and nodes[i].kind == "word":
            units, text, i = [nodes[i].text], f"{text} {nodes[i].text}", i + 1
        added = (start > 1 and nodes[start - 1].is_mark("+", "-")) or (i < len(nodes) and nodes[i].is_mark("+"))
        if added and not all(map(_DAY_UNITS.fullmatch, units)):
            self.hour_intervals.add(at)
        return ("1" if self.days_probe == at else text), i

    def _suffixes(self, gap: str, text: str, nodes: Sequence[Node], i: int, literal: bool) -> tuple[str, int]:
        """Appends the suffixes of a value: casts by `::`, and OVER, FILTER and WITHIN GROUP of a call."""
        while i < len(nodes):
            if nodes[i].is_mark("::") and i + 1 < len(nodes):
                kind, at = nodes[i + 1].text, nodes[i].at
                i += 2
                while i < len(nodes) and nodes[i].is_word("precision", "unsigned", "varying"):
                    kind, i = f"{kind} {nodes[i].text}", i + 1
                size = ""
                if i < len(nodes) and nodes[i].kind == "group":
                    size, i = f"({self.rewrite(nodes[i].inner)})", i + 1
                text = self._cast("CAST", text, kind, size, at, literal=literal)
            elif nodes[i].is_word("over", "filter") and i + 1 < len(nodes) and nodes[i + 1].kind == "group":
                text, i = f"{text} {nodes[i].text} ({self.rewrite(nodes[i + 1].inner)})", i + 2
            elif nodes[i].is_word("within") and i + 2 < len(nodes) and nodes[i + 2].kind == "group":
                text, i = f"{text} WITHIN GROUP ({self.rewrite(nodes[i + 2].inner)})", i + 3
            else:
                break
            literal = False
        return gap + text, i

    def _case(self, nodes: Sequence[Node], i: int) -> tuple[int, str]:
        end = end_of_case(nodes, i - 1)
        closed = nodes[end - 1].is_word("end")
        return end, f"CASE {self.rewrite(nodes[i : end - closed])}{' END' * closed}"

    def _truth_test(self, nodes: Sequence[Node], i: int) -> tuple[str, int] | None:
        """Rewrites IS [NOT] TRUE, FALSE or UNKNOWN, which return null for null in Polars; None for another IS."""
        negated = i + 1 < len(nodes) and nodes[i + 1].is_word("not")
        last = i + 1 + negated
        if last < len(nodes) and nodes[last].is_word("true", "false", "unknown"):
            return _TRUTH_TESTS[nodes[last].text.lower(), negated], last + 1
        return None

    def _distinct_from(self, nodes: Sequence[Node], i: int, left: str) -> tuple[str, int] | None:
        """Rewrites IS [NOT] DISTINCT FROM in parentheses: Polars reads a following AND or OR as part of its right side.

        Returns:
            The text and the index of the node after it; None if it is another IS.
        """
        start = i + 1 + (i + 1 < len(nodes) and nodes[i + 1].is_word("not")) + 2
        if start > len(nodes) or not (nodes[start - 2].is_word("distinct") and nodes[start - 1].is_word("from")):
            return None
        if comparison := self._comparison(nodes, start - 1, left):
            return comparison
        end = end_of_operand(nodes, start)
        how = "IS DISTINCT FROM" if start == i + 3 else "IS NOT DISTINCT FROM"
        return f" ({left} {how} {self.rewrite(nodes[start:end]).strip()})", end

    def _comparison(self, nodes: Sequence[Node], i: int, left: str) -> tuple[str, int] | None:
        """Records a comparison whose sides may be a time and a number.

        Returns:
            The probe's text and the index of the node after it, if this comparison is the one to probe; otherwise None.
        """
        end = _end_of_side(nodes, i + 1)
        if self.comparison_probe is not None and self.comparison_probe[0] != nodes[i].at:
            return None
        right = self.rewrite(nodes[i + 1 : end]).strip()
        sides = (re.sub(r"\s+not$", "", left, flags=re.IGNORECASE), right)  # x NOT BETWEEN
        if not all(sides) or any(side.startswith("'") or side.lower() in ("null", "true", "false") for side in sides):
            return None
        if all(NUMBER.fullmatch(side) for side in sides):
            return None
        if self.comparison_probe is None:
            self.comparisons[nodes[i].at] = sides
            return None
        if nodes[i].is_word("between"):
            end = _end_of_side(nodes, end + 1)
        time, number = reversed(sides) if self.comparison_probe[1] else sides
        return f" ((INTERVAL '1 day' + ({time})) IS NULL AND (({number}) % 2) IS NULL)", end

    def _division(self, nodes: Sequence[Node], i: int) -> tuple[str, int]:
        """Rewrites a division: a divisor of 0 becomes null, and `/` divides floats."""
        mark = nodes[i].text
        i += 1
        sign = ""
        while i < len(nodes) and nodes[i].is_mark("-", "+"):
            sign, i = f"{sign} {nodes[i].text} ", i + 1
        if i == len(nodes):
            return f" {mark}{sign}", i
        first = nodes[i]
        text, i = self._primary(nodes, i)
        if first.is_word("interval"):
            return f" {mark}{sign}{text}", i
        return f" {mark} {divisor(sign + text, exact=mark != '/')}", i

    def _call(self, function: str, group: Node) -> str:
        name = function.strip('"`').lower()
        if name in ("cast", "try_cast"):
            return self._cast_call(function, group)
        if name == "position" and (parts := split(group.inner, lambda node: node.is_word("in"))) and len(parts) == 2:
            return position(self.rewrite(parts[1]), self.rewrite(parts[0]))
        arguments = [self.rewrite(part).strip() for part in split(group.inner, lambda node: node.is_mark(","))]
        call = f"{function}({self.rewrite(group.inner)})"
        if name == "strpos" and len(arguments) == 2:
            return position(*arguments)
        if name in ("coalesce", "ifnull") and len(arguments) > 1:
            return coalesce(arguments)
        if name == "round":
            return round_half_up(arguments)
        if name in ("mod", "div") and len(arguments) == 2:
            return f"{function}({arguments[0]}, {divisor(arguments[1], exact=True)})"
        if name == "log" and len(arguments) == 2:
            call = f"{function}({arguments[1]}, {arguments[0]})"  # in Polars the base is the last argument
        if name in ("left", "right") and arguments[-1] in ("0", "- 0", "-0"):
            raise SpecError(f"{function.upper()} of 0 characters would be '' even for null", fix="write ''")
        if name == "replace" and len(arguments) == 3 and arguments[1] == "''":
            raise SpecError(
                "REPLACE of '' would insert the new text between all characters", fix="give the text to replace"
            )
        if name in _SMALL_RESULTS:
            return f"({call} + {ZERO_BIGINT})"
        if name in _PARTIAL:
            return f"(CASE WHEN {call} <> {NAN} THEN {call} END)"
        return call

    def _cast_call(self, function: str, group: Node) -> str:
        parts = split(group.inner, lambda node: node.is_word("as"))
        if len(parts) != 2 or not parts[0] or not parts[1]:
            return f"{function}({self.rewrite(group.inner)})"
        kind = " ".join(node.text for node in parts[1] if node.kind != "group")
        size = "".join(f"({self.rewrite(node.inner)})" for node in parts[1] if node.kind == "group")
        literal = len(parts[0]) == 1 and parts[0][0].kind == "text"
        return self._cast(function, self.rewrite(parts[0]).strip(), kind, size, group.at, literal=literal)

    def _cast(self, function: str, text: str, kind: str, size: str, at: int, *, literal: bool) -> str:
        lower = kind.lower()
        if self.time_probe == at:
            return f"(INTERVAL '1 day' + ({text}))"
        if lower in _INTEGERS and NUMBER.fullmatch(text.strip()):
            number = Decimal(text.replace(" ", ""))
            text = str(int(number.to_integral_value(ROUND_HALF_UP)))
        elif lower in _INTEGERS and not literal:
            self.roundable.add(at)
            if self.round_only is None or at in self.round_only:
                text = f"ROUND({text})"  # Polars' ROUND rounds halves to even, as the cast must
        if lower in _SMALL_INTEGERS:
            return f"CAST({function}({text} AS {kind}) AS BIGINT)"
        places = decimal_places(size) if lower in _DECIMALS else None
        if places is not None and not literal:
            self.roundable.add(at)
            if self.round_only is None or at in self.round_only:
                text = f"ROUND({text}, {places})"
        if lower in _TIME_TYPES and literal and not _ISO_LITERAL.fullmatch(text.strip()):
            raise SpecError(f"{text.strip()} is not in ISO format, such as 2026-09-01", fix=STRPTIME_FIX)
        if lower in _TIME_TYPES and not literal:
            self.time_casts.add(at)
            if self.text_probe == at:
                text = f"STRPTIME({text}, '%Y')"
            if self.number_probe == at:
                text = f"({text}) % 2"
        return f"{function}({text} AS {kind}{size})"


def _end_of_side(nodes: Sequence[Node], at: int) -> int:
    """Returns the index after the side of a comparison that begins at a node."""
    while at < len(nodes) and not (nodes[at].is_mark(",", *_COMPARISONS) or nodes[at].is_word(*_END_OF_SIDE)):
        at += 1
    return at
