"""SQL and Python rules: a condition over the row's columns, as a Polars expression."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import polars as pl

from kommuna.errors import KommunaError, MissingColumn, RulesError, SpecError, as_raised, nearest
from kommuna.spec.rules import PythonRule, Rule, RuleSet, SqlRule
from kommuna.steps.etl.sql.dialect import POLARS_ERRORS, standard_sql, widened, with_wide_columns
from kommuna.steps.etl.sql.numbers import null_on_overflow_or_nan

T = TypeVar("T")

_RUNS_PYTHON = "python_udf()"  # in an expression as Polars prints it


@dataclass(frozen=True)
class Condition:
    """What a SQL or Python rule evaluates: a Boolean, or a tag by name."""

    rule: Rule
    expression: pl.Expr
    by_name: bool = False


def condition_of(rule: Rule, schema: pl.Schema) -> Condition:
    """The condition of a rule that looks at columns.

    Raises:
        RulesError, MissingColumn: see `sql_condition` and `python_condition`.
    """
    if isinstance(rule, SqlRule):
        return sql_condition(rule, schema)
    assert isinstance(rule, PythonRule)
    return python_condition(rule, schema)


def sql_condition(rule: SqlRule, schema: pl.Schema) -> Condition:
    """A SQL rule's condition.

    Raises:
        RulesError: it is no SQL, no condition, or looks at other rows.
        MissingColumn: it names a column that the messages lack.
    """
    sql, where = rule.sql, rule.where
    if re.search(r"\bselect\b", re.sub(r"'[^']*'|\"[^\"]*\"", "", sql), re.IGNORECASE):
        raise RulesError(
            f"rule '{rule.name}': its SQL is a SELECT, not a condition",
            where=where,
            fix="write a condition over the row's columns, such as amount > 100; join tables in a step before",
        )
    try:
        standard = standard_sql(sql, partial(_plans, schema=schema))
        wide = widened(pl.LazyFrame(schema=schema)).collect_schema()
        expression = with_wide_columns(null_on_overflow_or_nan(pl.sql_expr(standard), wide), schema)
    except SpecError as error:
        raise RulesError(f"rule '{rule.name}': {error.what}", where=where, fix=error.fix) from None
    except POLARS_ERRORS as error:
        raise RulesError(f"rule '{rule.name}': {_line(error)}", where=where) from None
    dtype = _checked_dtype(rule.name, expression, schema, where)
    if dtype != pl.Boolean:
        raise RulesError(
            f"rule '{rule.name}': the SQL gives {dtype}, not true or false",
            where=where,
            fix="write a condition, such as amount > 100",
        )
    return Condition(rule, expression)


def python_condition(rule: PythonRule, schema: pl.Schema) -> Condition:
    """A Python rule's expression, from the function that it names.

    Raises:
        RulesError: the function is not found, fails, returns no expression, or one of the wrong type.
        MissingColumn: the expression names a column that the messages lack.
    """
    expression, by_name = expression_of(
        lambda: _function(rule)(), schema, rule=rule.name, tag=rule.tag, where=rule.where
    )
    return Condition(rule, expression, by_name)


def expression_of(
    function: Callable[[], object], schema: pl.Schema, *, rule: str, tag: str | None, where: str
) -> tuple[pl.Expr, bool]:
    """The expression that a rule's function returns, and whether it gives tags by name.

    Args:
        function: returns the expression.
        schema: the columns of the messages.
        rule: its name.
        tag: that it votes for; None: it says which itself.
        where: names the function in messages, after its kind.

    Raises:
        RulesError, MissingColumn: see `python_condition`.
    """
    name = where.partition(" ")[2]
    try:
        expression = function()
    except (RulesError, MemoryError):
        raise
    except (Exception, SystemExit, pl.exceptions.PanicException) as error:
        raise RulesError(
            f"rule '{rule}': {name} failed: {type(error).__name__}: {_line(error)}", where=where
        ) from error
    if not isinstance(expression, pl.Expr):
        raise RulesError(
            f"rule '{rule}': {name} returned {type(expression).__name__}, not a Polars expression",
            where=where,
            fix="return an expression such as pl.col('amount') > 100; the platform applies it to the rows",
        )
    dtype = _checked_dtype(rule, expression, schema, where)
    if _RUNS_PYTHON in str(expression):
        expression = _of_each_row(expression, dtype, rule, where)
    if dtype == pl.Boolean and tag is not None:
        return expression, False
    if isinstance(dtype, pl.String | pl.Enum | pl.Categorical) and tag is None:
        return expression.cast(pl.String), True
    if tag is None:
        fix = "give the rule a tag" if dtype == pl.Boolean else "return a String expression, a tag by name"
    else:
        fix = f"return a Boolean expression: true votes for '{tag}'; or remove the tag and return tags by name"
    has = f"the tag '{tag}'" if tag else "no tag"
    raise RulesError(
        f"rule '{rule}' has {has}, but {name} gives {dtype}",
        where=where,
        fix=fix,
    )


def computed(plan: pl.LazyFrame, messages: pl.LazyFrame, rules: RuleSet, write: Callable[[pl.LazyFrame], T]) -> T:
    """Computes a plan of votes.

    Args:
        plan: of the votes of `rules` on `messages`.
        messages: the messages.
        rules: the rule set.
        write: computes it.

    Raises:
        RulesError: a SQL or Python rule fails on a row; the message names it.
    """
    try:
        return write(plan)
    except RulesError as error:
        raise as_raised(error) from None
    except (KommunaError, MemoryError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a team's function may raise anything, and Polars panic over what it returns
        raise failing_rule(messages, rules) or error from None


def failing_rule(messages: pl.LazyFrame, rules: RuleSet) -> RulesError | None:
    """The error of the first SQL or Python rule that cannot be computed on some row; None if it is none of them."""
    try:
        messages.select(pl.all().count()).collect(engine="streaming")
    except Exception:
        return None  # the messages themselves cannot be read
    schema = messages.collect_schema()
    for rule in rules.rules:
        if rule.reads != "columns":
            continue
        condition = condition_of(rule, schema)
        try:
            messages.select(pl.len(), condition.expression.count().alias("votes")).collect(engine="streaming")
        except RulesError as error:
            return as_raised(error)
        except (MemoryError, KeyboardInterrupt):
            raise
        except BaseException as error:
            return RulesError(
                f"rule '{rule.name}' fails on a row: {_said(error)}",
                where=rule.where,
                fix="TRY_CAST gives null where CAST fails" if isinstance(rule, SqlRule) else "correct the function",
            )
    return None


def _of_each_row(expression: pl.Expr, dtype: pl.DataType, rule: str, where: str) -> pl.Expr:
    """The expression of a Python function, checked to give a value for each row: Polars would repeat a single one."""

    def checked(given: Sequence[pl.Series]) -> pl.Series:
        rows, values = len(given[0]), given[1]
        if len(values) != rows:
            raise RulesError(
                f"rule '{rule}': its function returned {len(values)} values for a batch of {rows} rows",
                where=where,
                fix="return a value for each row of the Series that it is given, and null where it has no opinion",
            )
        return values

    any_column = expression.meta.root_names()[0]
    return pl.map_batches([pl.col(any_column), expression], checked, return_dtype=dtype, is_elementwise=True)


def _plans(sql: str, *, schema: pl.Schema) -> bool:
    """Whether an expression can be computed over a table without rows."""
    try:
        pl.DataFrame(schema=schema).select(with_wide_columns(pl.sql_expr(sql), schema))
    except POLARS_ERRORS:
        return False
    return True


def _function(rule: PythonRule) -> Callable[[], object]:
    module_name, _, name = rule.python.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name + ".").startswith(error.name + "."):
            raise  # the module is there, something that it imports is not
        raise RulesError(
            f"rule '{rule.name}': no module '{error.name}'",
            where=rule.where,
            fix="the module is looked for in the team's bundle and on sys.path",
        ) from None
    function = getattr(module, name, None)
    if not callable(function):
        hint = nearest(name, [n for n in vars(module) if callable(getattr(module, n))])
        raise RulesError(f"rule '{rule.name}': module '{module_name}' has no function '{name}'{hint}", where=rule.where)
    return function  # type: ignore[no-any-return]


def _checked_dtype(rule: str, expression: pl.Expr, schema: pl.Schema, where: str) -> pl.DataType:
    """The type that an expression gives, tried on a table of the same columns without rows."""
    for column in expression.meta.root_names():
        if column not in schema:
            raise MissingColumn(
                f"rule '{rule}': no column '{column}'{nearest(column, schema.names())}",
                where=where,
                fix=f"the messages have {', '.join(schema.names())}",
            )
    try:
        dtype = pl.DataFrame(schema=schema).select(vote=expression).schema["vote"]
    except MemoryError:
        raise
    except (Exception, pl.exceptions.PanicException) as error:  # a function is asked about a table without rows
        raise RulesError(f"rule '{rule}': {_said(error)}", where=where) from None
    if not _by_row(expression, schema):
        raise RulesError(
            f"rule '{rule}' looks at other rows than its own (an aggregate, a window or a sort)",
            where=where,
            fix="compute the column in a step before, then compare with it",
        )
    return dtype


def _by_row(expression: pl.Expr, schema: pl.Schema) -> bool:
    """Whether an expression's value depends on its own row alone.

    The optimiser knows: it moves a filter below such an expression only (`Expr.meta.is_row_separable` sees the
    outermost operation alone).
    """
    plan = (
        pl.LazyFrame(schema={**schema, "_probe": pl.Boolean}).with_columns(_vote=expression).filter("_probe").explain()
    )
    return plan.find("FILTER") > plan.find("WITH_COLUMNS")


def _said(error: BaseException) -> str:
    """The first line of an error; with its kind where that is not one of Polars' own."""
    polars = isinstance(error, pl.exceptions.PolarsError)
    return _line(error) if polars else f"{type(error).__name__}: {_line(error)}"


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
