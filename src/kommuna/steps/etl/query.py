"""Step: runs SQL over named tables; the SQL cannot read anything else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

import polars as pl
import structlog

from kommuna.errors import DataError, MissingColumn, SpecError, StepNotFound, nearest
from kommuna.steps.etl.sql.dialect import POLARS_ERRORS, standard_sql
from kommuna.steps.etl.sql.wide_columns import widened
from kommuna.steps.frames import takes_frames
from kommuna.steps.lazy_metrics import LazyMetrics

log = structlog.get_logger()

# Polars walks long chains (a+a+…, CASE WHEN …, JOIN … JOIN …) with its stack and in quadratic time: 1,000 operators
# take 2 s, 300 UNIONs 8 s, 20,000 operators end the process. Lists (IN (…), 10,000 columns) are not chains.
MAX_CHARS = 200_000
MAX_OPERATORS = 2_000
MAX_SELECTS = 200

_PIECES = re.compile(r"'[^']*'?|\"[^\"]*\"?|`[^`]*`?|--[^\n]*|/\*")
_COMMENT_MARKS = re.compile(r"/\*|\*/")
_FILE_FUNCTION = re.compile(r"\b((?:read|scan)_\w+)", re.IGNORECASE)
_FILE_CALL = re.compile(_FILE_FUNCTION.pattern + r"\s*\(", re.IGNORECASE)
_OPERATORS = re.compile(r"\b(?:and|or|when|not)\b|\|\||[-+*/%]|[<>=!~]+|::", re.IGNORECASE)
_SELECTS = re.compile(r"\b(?:select|join|from|union|intersect|except)\b", re.IGNORECASE)
_SCAN = re.compile(r"^\s*\S+ SCAN\b", re.MULTILINE)


class Queried(NamedTuple):
    """What the query selects."""

    table: pl.LazyFrame
    metrics: Mapping[str, float]


@takes_frames
def query(tables: dict[str, pl.LazyFrame], *, sql: str) -> Queried:
    """Runs one SELECT over named tables.

    The dialect is standard SQL, run by Polars: see docs/steps.md. Functions that read files are refused. Integers are
    computed with 64 bits; NaN and the result of a division by 0 are null.

    Args:
        tables: the tables, by their names in the SQL.
        sql: one SELECT, or WITH … SELECT.

    Returns:
        The selected rows, and the metric `rows`.

    Raises:
        SpecError: the SQL is not one valid SELECT, reads a file, or is too long to be planned.
        StepNotFound: a table in the SQL is not an input.
        MissingColumn: a column in the SQL is in none of the tables.
        DataError: the query fails on a row, for example by a CAST that a value does not allow; raised when the metrics
            are computed.
    """
    _only_select(sql)
    tables = {name: widened(table) for name, table in tables.items()}
    schemas = {name: table.collect_schema() for name, table in tables.items()}
    columns = {name: list(schema) for name, schema in schemas.items()}
    try:
        standard = standard_sql(sql, partial(_plans, schemas=schemas))
    except SpecError as error:
        raise SpecError(error.what, where=_shown(sql), fix=error.fix) from None
    _only_inputs(standard, sql, schemas, columns)
    try:
        table = pl.SQLContext(frames=tables, eager=False).execute(standard)
        table.collect_schema()
    except POLARS_ERRORS as error:
        raise _mistake(error, sql, columns) from None
    log.info("query.planned", tables=sorted(tables))
    return Queried(
        table,
        LazyMetrics(
            table.select(pl.len().alias("rows")),
            lambda error: DataError(f"the query fails on its rows: {_first_line(error)}", where=_shown(sql)),
        ),
    )


def _only_select(sql: str) -> None:
    if len(sql) > MAX_CHARS:
        raise SpecError(f"the SQL has {len(sql)} characters, more than {MAX_CHARS}", fix="split it into steps")
    plain = _plain(sql).strip()
    if not plain:
        raise SpecError("the SQL is empty", fix="give one SELECT")
    first = re.match(r"[\s(]*(\w+)", plain)
    word = first.group(1).upper() if first else plain[:10]
    if word not in ("SELECT", "WITH"):
        what = f"the SQL is not a SELECT: it begins with {word}"
        raise SpecError(what, where=_shown(sql), fix="give one SELECT or WITH … SELECT")
    if ";" in plain.rstrip("; \n\t"):
        raise SpecError("the SQL holds more than one statement", where=_shown(sql), fix="give one SELECT per step")
    if call := _FILE_CALL.search(plain):
        raise _reads_a_file(call.group(1), sql)
    for what, pattern, limit in (
        ("operators", _OPERATORS, MAX_OPERATORS),
        ("SELECTs and JOINs", _SELECTS, MAX_SELECTS),
    ):
        if (number := sum(1 for _ in pattern.finditer(plain))) > limit:
            fix = "split it into steps; write long lists as IN (…), or join a table of values"
            raise SpecError(f"the SQL has {number} {what}, more than {limit}", where=_shown(sql), fix=fix)


def _plain(sql: str) -> str:
    """Removes comments, texts and quoted names, except the names of functions that read files."""
    pieces: list[str] = []
    at = 0
    while found := _PIECES.search(sql, at):
        pieces.append(sql[at : found.start()])
        piece, at = found.group(), found.end()
        if piece == "/*":
            at = _comment_end(sql, at)
            pieces.append(" ")
        elif piece.startswith("--"):
            pieces.append(" ")
        elif piece.startswith("'"):
            pieces.append("''")
        else:
            function = _FILE_FUNCTION.fullmatch(piece.strip('"`'))
            pieces.append(f" {function.group()} " if function else '"name"')
    return "".join([*pieces, sql[at:]])


def _comment_end(sql: str, at: int) -> int:
    """Returns the end of the comment that began before `at`; comments may be nested."""
    depth = 1
    for mark in _COMMENT_MARKS.finditer(sql, at):
        depth += 1 if mark.group() == "/*" else -1
        if depth == 0:
            return mark.end()
    return len(sql)


def _plans(sql: str, *, schemas: dict[str, pl.Schema]) -> bool:
    """Whether a statement can be computed over empty tables."""
    empty = {name: pl.LazyFrame(schema=schema) for name, schema in schemas.items()}
    try:
        table = pl.SQLContext(frames=empty, eager=False).execute(sql)
        if _SCAN.search(table.explain(optimized=False)):
            return False
        table.collect()
    except (*POLARS_ERRORS, OSError):
        return False
    return True


def _only_inputs(standard: str, sql: str, schemas: dict[str, pl.Schema], columns: dict[str, list[str]]) -> None:
    """Refuses SQL that reads anything but its inputs: its plan over empty tables must not scan a file.

    The earlier text search keeps most files from being opened; this check covers every other spelling. If the text
    names a function that reads files, Polars' own message is not shown, because it may quote the file.
    """
    empty = {name: pl.LazyFrame(schema=schema) for name, schema in schemas.items()}
    try:
        plan = pl.SQLContext(frames=empty, eager=False).execute(standard).explain(optimized=False)
    except (*POLARS_ERRORS, OSError) as error:
        if function := _FILE_FUNCTION.search(sql):
            raise _reads_a_file(function.group(1), sql) from None
        raise _mistake(error, sql, columns) from None
    if _SCAN.search(plan):
        function = _FILE_FUNCTION.search(sql)
        raise _reads_a_file(function.group(1) if function else "a table function", sql)


def _reads_a_file(function: str, sql: str) -> SpecError:
    return SpecError(
        f"the SQL reads a file by {function}",
        where=_shown(sql),
        fix="pass the table as an input of the step: what a step reads is what it declares",
    )


def _mistake(error: BaseException, sql: str, columns: dict[str, list[str]]) -> SpecError | StepNotFound | MissingColumn:
    line = _first_line(error)
    column = re.search(r"column (?:named )?(?:\"((?:[^\"\\]|\\.)*)\"|'([^']*)'|`([^`]*)`)", line)
    if relation := re.search(r"relation '([^']*)' was not found", line):
        name = relation.group(1)
        return StepNotFound(
            f"the SQL reads '{name}', but no input has this name{nearest(name, columns)}; inputs: {', '.join(columns)}",
            where=_shown(sql),
            fix="add the table to the step's inputs, or correct its name",
        )
    if function := re.search(r"'([^']*)' is not a supported table function", line):
        return SpecError(
            f"the SQL calls table function '{function.group(1)}'",
            where=_shown(sql),
            fix=f"select from the step's inputs: {', '.join(columns)}",
        )
    known = sorted({name for names in columns.values() for name in names})
    if column and (isinstance(error, pl.exceptions.ColumnNotFoundError) or "no column" in line):
        name = next(group for group in column.groups() if group is not None)
        return MissingColumn(
            f"the SQL names column '{name}', which no table has{nearest(name, known)}; found: {', '.join(known)}",
            where=_shown(sql),
            fix="correct the column's name",
        )
    fix = "the dialect is in docs/steps.md"
    return SpecError(f"the SQL cannot be read: {line}", where=_shown(sql), fix=fix)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0]


def _shown(sql: str, limit: int = 600) -> str:
    text = sql.strip()
    return text if len(text) <= limit else text[:limit] + " …"
