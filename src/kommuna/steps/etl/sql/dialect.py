"""Standard SQL for Polars: rewrites what Polars reads in a way of its own, and refuses what cannot be rewritten.

Polars' SQL counts bytes where the standard counts characters, wraps small integers, rounds decimals on division. What
is certain is rewritten in the text; docs/steps.md lists the dialect that comes of it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import polars as pl

from kommuna.errors import SpecError
from kommuna.steps.etl.sql.calls import WIDE, coalesce, decimal_places, divisor, position, round_half_up
from kommuna.steps.etl.sql.tokens import Node, end_of_case, end_of_operand, is_infix_not, nodes_of, split

MAX_CHARS = 2_000_000  # of the rewritten text; calls within calls of ROUND grow sixfold a level

_NUMBER = re.compile(r"-?\s*(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,2})?")
_ISO = re.compile(r"'\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?)?'")
_STRPTIME = "write CAST(STRPTIME(column, '%Y-%m-%d') AS DATE), or declare the type where the table is read"
_SPAN = "write DATE '2026-09-01' for a day, INTERVAL '30 days' for a difference of days or times"
_EPOCH = "write EXTRACT(EPOCH FROM column): seconds since 1970"
MAX_PROBED = 50  # comparisons of one statement whose types are asked for: each plans the statement once or twice
NAN = "CAST('NaN' AS DOUBLE)"
POLARS_ERRORS = (pl.exceptions.PolarsError, pl.exceptions.PanicException)  # some SQL panics: GREATEST()
_SMALL = {"tinyint", "smallint", "int", "integer", "int2", "int4", "mediumint"}
_WHOLE = _SMALL | {"bigint", "int8", "int64", "hugeint", "int128"}
_DECIMAL = {"decimal", "numeric", "dec"}
_WHOLE_DAYS = re.compile(r"(?:d|days?|w|weeks?|mo|mons?|months?|q|quarters?|y|years?)", re.IGNORECASE)
_TIMES = {"date", "timestamp", "datetime", "time", "timestamptz"}
# What counts or takes a part of a time is an integer of 8 to 32 bits, with which sums go round in a circle.
_COUNTS = {
    "length", "char_length", "character_length", "octet_length", "bit_length", "array_length", "extract", "date_part",
    "year", "month", "day", "hour", "minute", "second", "week", "quarter",
}  # fmt: skip
_CLOCK = {"current_date", "current_time", "current_timestamp", "localtime", "localtimestamp", "now", "today"}
_UNDEFINED = {"sqrt", "ln", "log", "log2", "log10", "log1p", "asin", "acos", "pow", "power"}
_BOUNDS = (
    "and", "or", "not", "when", "then", "else", "select", "distinct", "all", "where", "having", "qualify", "on", "by",
)  # fmt: skip
_KEYWORDS = {
    *_BOUNDS, "in", "from", "join", "as", "over", "between", "like", "ilike", "union", "intersect", "except", "values",
    "using", "limit", "offset", "is", "exists", "with", "any", "some", "filter", "group", "order", "end", "natural",
}  # fmt: skip
_ENDS = (_KEYWORDS - {"over", "filter"}) | {"within"}  # of a side of a comparison
_COMPARES = ("=", "==", "<>", "!=", "<", "<=", ">", ">=")
_TESTS = {
    ("true", False): "IS NOT DISTINCT FROM TRUE",
    ("true", True): "IS DISTINCT FROM TRUE",
    ("false", False): "IS NOT DISTINCT FROM FALSE",
    ("false", True): "IS DISTINCT FROM FALSE",
    ("unknown", False): "IS NULL",
    ("unknown", True): "IS NOT NULL",
}


def standard_sql(sql: str, plans: Callable[[str], bool] | None = None) -> str:
    """The statement or expression as Polars has to read it, to mean what standard SQL means.

    Args:
        sql: a SELECT, or an expression.
        plans: whether a text can be planned over the tables' columns, which tells the types of what is cast;
            None where there are no tables yet.

    Raises:
        SpecError: the SQL means something else to Polars and is not rewritten, or calls stand too deep within calls.
    """
    nodes = nodes_of(sql)
    if nodes is None:
        return sql  # Polars says what is wrong with it
    try:
        whole = _Rewriter()
        text = whole.run(nodes)
        if plans is None or not (whole.rounded or whole.times or whole.hours or whole.compared):
            return _bounded(text)
        rounded = whole.rounded
        if not plans(text):
            rounded = {at for at in whole.rounded if plans(_Rewriter(only={at}).run(nodes))}
            text = _Rewriter(only=rounded).run(nodes)
        for at in whole.times:
            if plans(_Rewriter(only=rounded, parsed=at).run(nodes)):
                raise SpecError(
                    "CAST of a text to a day or time guesses how it is written",
                    fix=_STRPTIME,
                )
        _refuse_times_as_numbers(nodes, whole, rounded, plans)
        return _bounded(text)
    except RecursionError:
        raise SpecError("the SQL is nested too deep", fix="split it into steps") from None


def _refuse_times_as_numbers(
    nodes: Sequence[Node], whole: _Rewriter, rounded: set[int], plans: Callable[[str], bool]
) -> None:
    """Refuses what Polars reads as a count of days or microseconds since 1970 or between times, or as days alone."""
    for at in whole.times:
        if plans(_Rewriter(only=rounded, as_number=at).run(nodes)):
            raise SpecError("CAST of a number to a day or time", fix="make the day or time a text before it is read")
    for at in whole.rounded:
        if plans(_Rewriter(only=rounded - {at}, as_time=at).run(nodes)):
            raise SpecError("CAST of a day, time or difference of times to a number", fix=_EPOCH)
    for at in whole.hours:
        if plans(_Rewriter(only=rounded, as_days=at).run(nodes)):
            raise SpecError(
                "hours, minutes or seconds are added to a day, or taken from one, which stays a day",
                fix="make it a time before: CAST(day AS TIMESTAMP) + INTERVAL '12 hours'",
            )
    for at, (left, right) in list(whole.compared.items())[:MAX_PROBED]:
        for turned, number in ((False, right), (True, left)):
            if _NUMBER.fullmatch(left if number is right else right):
                continue  # a number that is written out is no time
            if plans(_Rewriter(only=rounded, asked=(at, turned)).run(nodes)):
                raise SpecError(
                    f"{left} is compared with {right}: a day, time or difference of times with a number", fix=_SPAN
                )


def widened(table: pl.LazyFrame) -> pl.LazyFrame:
    """A table as SQL computes with it: integers of 64 bits, and null for NaN."""
    schema = table.collect_schema()
    columns = [wide.alias(name) for name, dtype in schema.items() if (wide := _wide(pl.col(name), dtype)) is not None]
    return table.with_columns(columns) if columns else table


def with_wide_columns(expression: pl.Expr, schema: pl.Schema) -> pl.Expr:
    """An expression over the columns as `widened` has them, to be applied to columns as they are."""
    wide: dict[str, Any] = {}
    for name in expression.meta.root_names():
        column = _wide(pl.col(name), schema[name]) if name in schema else None
        if column is not None:
            wide[name] = json.loads(column.meta.serialize(format="json"))
    if not wide:
        return expression
    tree = _replaced(json.loads(expression.meta.serialize(format="json")), wide)
    return pl.Expr.deserialize(json.dumps(tree).encode(), format="json")


def _replaced(tree: Any, columns: dict[str, Any]) -> Any:
    if isinstance(tree, list):
        return [_replaced(item, columns) for item in tree]
    if not isinstance(tree, dict):
        return tree
    if list(tree) == ["Column"] and tree["Column"] in columns:
        return columns[tree["Column"]]
    return {key: _replaced(item, columns) for key, item in tree.items()}


def _wide(column: pl.Expr, dtype: pl.DataType) -> pl.Expr | None:
    if dtype.is_integer() and dtype not in (pl.Int64, pl.UInt64, pl.Int128, pl.UInt128):
        return column.cast(pl.Int64)
    return column.fill_nan(None) if dtype.is_float() else None


def _bounded(text: str) -> str:
    if len(text) > MAX_CHARS:
        raise SpecError("the SQL holds too many calls within calls of ROUND or POSITION", fix="split it into steps")
    return text


@dataclass
class _Rewriter:
    """One pass over a statement.

    Attributes:
        only: the casts (by their place) whose operand is rounded; None: all that may have to be.
        parsed: the cast to a time whose operand is read as text.
        as_number: the cast to a time that can be planned only where its operand is a number.
        as_time: the cast to a whole number that can be planned only where its operand is a time or a difference of two.
        as_days: the interval of hours or less that can be planned only where it is added to a day, or taken from one.
        asked: the comparison that can be planned only where its left side is a time or a difference of two, and its
            right one a number; True: the other way round.
        rounded: the casts that were met whose operand may have to be rounded.
        times: the casts to days and times that were met.
        hours: the intervals of hours or less that were met in a sum or difference.
        compared: the comparisons that were met, with both sides, where one may be a time and the other a number.
        texts: of the nodes that were met, by the places of the first and the last: sides are read more than once.
    """

    only: set[int] | None = None
    parsed: int | None = None
    as_number: int | None = None
    as_time: int | None = None
    as_days: int | None = None
    asked: tuple[int, bool] | None = None
    rounded: set[int] = field(default_factory=set)
    times: set[int] = field(default_factory=set)
    hours: set[int] = field(default_factory=set)
    compared: dict[int, tuple[str, str]] = field(default_factory=dict)
    texts: dict[tuple[int, int], str] = field(default_factory=dict)

    def run(self, nodes: Sequence[Node]) -> str:
        place = (nodes[0].at, nodes[-1].at) if nodes else (0, 0)
        if nodes and place not in self.texts:
            self.texts[place] = self._text(nodes)
        return self.texts[place] if nodes else ""

    def _text(self, nodes: Sequence[Node]) -> str:
        out: list[str] = []
        i = left = betweens = 0  # `left`: where the operand of a test may begin
        while i < len(nodes):
            node, at = nodes[i], i
            if node.is_mark("/", "//", "%") and i + 1 < len(nodes):
                text, i = self._divided(nodes, i)
            elif node.is_word("is") and (test := self._test(nodes, i)):
                how, i = test
                out[left:], text = [], f" (({''.join(out[left:]).strip()}) {how})"
            elif node.is_word("is") and (told := self._distinct(nodes, i, "".join(out[left:]).strip())):
                out[left:], text, i = [], told[0], told[1]
            elif (node.is_mark(*_COMPARES) or node.is_word("between")) and (
                asked := self._compared(nodes, i, "".join(out[left:]).strip())
            ):
                out[left:], text, i = [], asked[0], asked[1]
            else:
                text, i = self._primary(nodes, i)
                betweens += node.is_word("between")
            out.append(text)
            if betweens and node.is_word("and"):
                betweens -= 1
            elif node.is_mark(",") or (node.is_word(*_BOUNDS) and not is_infix_not(nodes, at)):
                left = len(out)
        return "".join(out)

    def _primary(self, nodes: Sequence[Node], i: int) -> tuple[str, int]:
        """A name, call, literal, group or CASE with what is written behind it; or one other token."""
        node = nodes[i]
        gap = " " if node.gap else ""
        i += 1
        if node.kind == "mark" or node.is_word(*_KEYWORDS):
            return gap + node.text, i
        if node.is_word("case"):
            i, text = self._case(nodes, i)
        elif node.kind == "group":
            text = f"({self.run(node.inner)})"
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
                    f"{text.upper()} is another one at each run, and the result of a step is kept",
                    fix="write the run's own date into the SQL of a DAG: DATE '{{ ds }}'; for rules make it a column",
                )
            if node.kind == "number" and math.isinf(float(text)):
                raise SpecError(f"{text[:40]} is beyond the largest number", fix="numbers go to 1.8e308")
            while node.kind in ("word", "name") and i + 1 < len(nodes) and nodes[i].is_mark("."):
                node = nodes[i + 1]
                text, i = f"{text}.{node.text}", i + 2
            if node.kind in ("word", "name") and i < len(nodes) and nodes[i].kind == "group":
                text, i = self._call(text, nodes[i]), i + 1
        return self._behind(gap, text, nodes, i, node.kind == "text")

    def _interval(self, nodes: Sequence[Node], i: int) -> tuple[str, int]:
        """An interval from its amount on, and its end; one of hours or less in a sum or difference is noted."""
        start, at, text = i - 1, nodes[i].at, f"INTERVAL {nodes[i].text}"
        units = re.findall(r"[^\W\d_]+", nodes[i].text)
        i += 1
        if not units and i < len(nodes) and nodes[i].kind == "word":
            units, text, i = [nodes[i].text], f"{text} {nodes[i].text}", i + 1
        added = (start > 1 and nodes[start - 1].is_mark("+", "-")) or (i < len(nodes) and nodes[i].is_mark("+"))
        if added and not all(map(_WHOLE_DAYS.fullmatch, units)):
            self.hours.add(at)
        return ("1" if self.as_days == at else text), i

    def _behind(self, gap: str, text: str, nodes: Sequence[Node], i: int, literal: bool) -> tuple[str, int]:
        """Casts by `::`, and a call's OVER, FILTER and WITHIN GROUP."""
        while i < len(nodes):
            if nodes[i].is_mark("::") and i + 1 < len(nodes):
                kind, at = nodes[i + 1].text, nodes[i].at
                i += 2
                while i < len(nodes) and nodes[i].is_word("precision", "unsigned", "varying"):
                    kind, i = f"{kind} {nodes[i].text}", i + 1
                size = ""
                if i < len(nodes) and nodes[i].kind == "group":
                    size, i = f"({self.run(nodes[i].inner)})", i + 1
                text = self._cast("CAST", text, kind, size, at, literal=literal)
            elif nodes[i].is_word("over", "filter") and i + 1 < len(nodes) and nodes[i + 1].kind == "group":
                text, i = f"{text} {nodes[i].text} ({self.run(nodes[i + 1].inner)})", i + 2
            elif nodes[i].is_word("within") and i + 2 < len(nodes) and nodes[i + 2].kind == "group":
                text, i = f"{text} WITHIN GROUP ({self.run(nodes[i + 2].inner)})", i + 3
            else:
                break
            literal = False
        return gap + text, i

    def _case(self, nodes: Sequence[Node], i: int) -> tuple[int, str]:
        end = end_of_case(nodes, i - 1)
        closed = nodes[end - 1].is_word("end")
        return end, f"CASE {self.run(nodes[i : end - closed])}{' END' * closed}"

    def _test(self, nodes: Sequence[Node], i: int) -> tuple[str, int] | None:
        """IS [NOT] TRUE, FALSE or UNKNOWN: Polars leaves null null."""
        negated = i + 1 < len(nodes) and nodes[i + 1].is_word("not")
        last = i + 1 + negated
        if last < len(nodes) and nodes[last].is_word("true", "false", "unknown"):
            return _TESTS[nodes[last].text.lower(), negated], last + 1
        return None

    def _distinct(self, nodes: Sequence[Node], i: int, left: str) -> tuple[str, int] | None:
        """IS [NOT] DISTINCT FROM and its end: Polars takes an AND or OR behind it for a part of its right side."""
        start = i + 1 + (i + 1 < len(nodes) and nodes[i + 1].is_word("not")) + 2
        if start > len(nodes) or not (nodes[start - 2].is_word("distinct") and nodes[start - 1].is_word("from")):
            return None
        if asked := self._compared(nodes, start - 1, left):
            return asked
        end = end_of_operand(nodes, start)
        how = "IS DISTINCT FROM" if start == i + 3 else "IS NOT DISTINCT FROM"
        return f" ({left} {how} {self.run(nodes[start:end]).strip()})", end

    def _compared(self, nodes: Sequence[Node], i: int, left: str) -> tuple[str, int] | None:
        """Notes a comparison; the text that asks what its sides are, and its end, where this one is asked about."""
        end = _end_of_side(nodes, i + 1)
        if self.asked is not None and self.asked[0] != nodes[i].at:
            return None
        right = self.run(nodes[i + 1 : end]).strip()
        sides = (re.sub(r"\s+not$", "", left, flags=re.IGNORECASE), right)  # x NOT BETWEEN
        if not all(sides) or any(side.startswith("'") or side.lower() in ("null", "true", "false") for side in sides):
            return None
        if all(_NUMBER.fullmatch(side) for side in sides):
            return None
        if self.asked is None:
            self.compared[nodes[i].at] = sides
            return None
        if nodes[i].is_word("between"):
            end = _end_of_side(nodes, end + 1)
        time, number = reversed(sides) if self.asked[1] else sides
        return f" ((INTERVAL '1 day' + ({time})) IS NULL AND (({number}) % 2) IS NULL)", end

    def _divided(self, nodes: Sequence[Node], i: int) -> tuple[str, int]:
        """A division, by null where the divisor is 0; `/` is one of floats."""
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
            return position(self.run(parts[1]), self.run(parts[0]))
        arguments = [self.run(part).strip() for part in split(group.inner, lambda node: node.is_mark(","))]
        call = f"{function}({self.run(group.inner)})"
        if name == "strpos" and len(arguments) == 2:
            return position(*arguments)
        if name in ("coalesce", "ifnull") and len(arguments) > 1:
            return coalesce(arguments)
        if name == "round":
            return round_half_up(arguments)
        if name in ("mod", "div") and len(arguments) == 2:
            return f"{function}({arguments[0]}, {divisor(arguments[1], exact=True)})"
        if name == "log" and len(arguments) == 2:
            call = f"{function}({arguments[1]}, {arguments[0]})"  # Polars takes the base last
        if name in ("left", "right") and arguments[-1] in ("0", "- 0", "-0"):
            raise SpecError(f"{function.upper()} of 0 characters is '' even for null", fix="write ''")
        if name == "replace" and len(arguments) == 3 and arguments[1] == "''":
            raise SpecError("REPLACE of '' puts the new text between all characters", fix="give the text to replace")
        if name in _COUNTS:
            return f"({call} + {WIDE})"
        if name in _UNDEFINED:
            return f"(CASE WHEN {call} <> {NAN} THEN {call} END)"
        return call

    def _cast_call(self, function: str, group: Node) -> str:
        parts = split(group.inner, lambda node: node.is_word("as"))
        if len(parts) != 2 or not parts[0] or not parts[1]:
            return f"{function}({self.run(group.inner)})"
        kind = " ".join(node.text for node in parts[1] if node.kind != "group")
        size = "".join(f"({self.run(node.inner)})" for node in parts[1] if node.kind == "group")
        literal = len(parts[0]) == 1 and parts[0][0].kind == "text"
        return self._cast(function, self.run(parts[0]).strip(), kind, size, group.at, literal=literal)

    def _cast(self, function: str, text: str, kind: str, size: str, at: int, *, literal: bool) -> str:
        lower = kind.lower()
        if self.as_time == at:
            return f"(INTERVAL '1 day' + ({text}))"
        if lower in _WHOLE and _NUMBER.fullmatch(text.strip()):
            number = Decimal(text.replace(" ", ""))
            text = str(int(number.to_integral_value(ROUND_HALF_UP)))  # of a literal no value is refused
        elif lower in _WHOLE and not literal:
            self.rounded.add(at)
            if self.only is None or at in self.only:
                text = f"ROUND({text})"  # Polars' own, which takes halves to the even number, as the cast has to
        if lower in _SMALL:
            return f"CAST({function}({text} AS {kind}) AS BIGINT)"
        places = decimal_places(size) if lower in _DECIMAL else None
        if places is not None and not literal:
            self.rounded.add(at)
            if self.only is None or at in self.only:
                text = f"ROUND({text}, {places})"
        if lower in _TIMES and literal and not _ISO.fullmatch(text.strip()):
            raise SpecError(f"{text.strip()} is not written as 2026-09-01", fix=_STRPTIME)
        if lower in _TIMES and not literal:
            self.times.add(at)
            if self.parsed == at:
                text = f"STRPTIME({text}, '%Y')"
            if self.as_number == at:
                text = f"({text}) % 2"
        return f"{function}({text} AS {kind}{size})"


def _end_of_side(nodes: Sequence[Node], at: int) -> int:
    """Where a side of a comparison ends that begins at a node."""
    while at < len(nodes) and not (nodes[at].is_mark(",", *_COMPARES) or nodes[at].is_word(*_ENDS)):
        at += 1
    return at
