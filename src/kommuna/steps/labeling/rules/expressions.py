"""SQL and Python rules as Polars expressions over the columns of a row."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, singledispatch
from typing import TypeVar

import polars as pl

from kommuna.errors import KommunaError, MissingColumn, RulesError, SpecError, as_raised, nearest
from kommuna.spec.rules import PythonRule, Rule, RuleSet, SqlRule
from kommuna.steps.etl.sql.dialect import POLARS_ERRORS, standard_sql
from kommuna.steps.etl.sql.numbers import null_on_overflow_or_nan
from kommuna.steps.etl.sql.wide_columns import widened, with_wide_columns

T = TypeVar("T")

_RUNS_PYTHON = "python_udf()"  # how Polars prints a Python function in an expression


@dataclass(frozen=True)
class Condition:
    """What a rule that reads columns evaluates.

    Attributes:
        expression: a Boolean, or a String.
        by_name: whether the expression is a String with the name of a tag.
        fix: how to fix an expression that fails on a row.
    """

    expression: pl.Expr
    by_name: bool = False
    fix: str = ""


@singledispatch
def condition_of(rule: Rule, schema: pl.Schema) -> Condition:
    """Returns the condition of a rule that reads columns. Each such kind of rule registers its own function.

    Args:
        rule: the rule.
        schema: the columns of the messages.

    Raises:
        RulesError: the rule is not a condition on a row.
        MissingColumn: it names a column that the messages lack.
    """
    raise NotImplementedError(f"rules of the kind '{rule.kind}' have no condition on columns")


@condition_of.register
def _sql_condition(rule: SqlRule, schema: pl.Schema) -> Condition:
    """Returns a SQL rule's condition.

    Raises:
        RulesError: the SQL is invalid, is not a condition, or depends on other rows.
        MissingColumn: it names a column that the messages lack.
    """
    sql, where = rule.sql, rule.where
    if re.search(r"\bselect\b", re.sub(r"'[^']*'|\"[^\"]*\"", "", sql), re.IGNORECASE):
        raise RulesError(
            f"rule '{rule.name}': its SQL is a SELECT, not a condition",
            where=where,
            fix="write a condition over the row's columns, such as amount > 100; join tables in an earlier step",
        )
    try:
        standard = standard_sql(sql, partial(_plans, schema=schema))
        wide = widened(pl.LazyFrame(schema=schema)).collect_schema()
        expression = with_wide_columns(null_on_overflow_or_nan(pl.sql_expr(standard), wide), schema)
    except SpecError as error:
        raise RulesError(f"rule '{rule.name}': {error.what}", where=where, fix=error.fix) from None
    except POLARS_ERRORS as error:
        raise RulesError(f"rule '{rule.name}': {_first_line(error)}", where=where) from None
    dtype = _checked_dtype(rule.name, expression, schema, where)
    if dtype != pl.Boolean:
        raise RulesError(
            f"rule '{rule.name}': the SQL gives {dtype}, not true or false",
            where=where,
            fix="write a condition, such as amount > 100",
        )
    return Condition(expression, fix="use TRY_CAST, which gives null where CAST fails")


@condition_of.register
def _python_condition(rule: PythonRule, schema: pl.Schema) -> Condition:
    """Returns a Python rule's condition: the expression that its function returns.

    Raises:
        RulesError: the function is not found, fails, or returns something else than an expression of the right type.
        MissingColumn: the expression names a column that the messages lack.
    """
    expression, by_name = expression_of(
        lambda: _function(rule)(), schema, rule=rule.name, tag=rule.tag, where=rule.where
    )
    return Condition(expression, by_name, fix="correct the function")


@singledispatch
def parsed(_rule: Rule) -> pl.Expr | None:
    """Parses a rule's condition without a table, as `kommuna check` does; None if that needs the columns' types.

    Raises:
        SpecError: no table can make it a condition.
    """
    return None


@parsed.register
def _parsed_sql(rule: SqlRule) -> pl.Expr:
    try:
        return pl.sql_expr(standard_sql(rule.sql))
    except POLARS_ERRORS as error:
        fix = "write one condition over the row's columns: amount > 100"
        raise SpecError(f"the SQL cannot be read: {_first_line(error)}", fix=fix) from None


def expression_of(
    function: Callable[[], object], schema: pl.Schema, *, rule: str, tag: str | None, where: str
) -> tuple[pl.Expr, bool]:
    """Calls and checks a rule's function; returns its expression, and whether that names tags.

    Args:
        function: returns the expression.
        schema: the columns of the messages.
        rule: the rule's name.
        tag: the tag that the rule votes for; None: the expression names it.
        where: the place for error messages: a kind, a space, and the function's name.

    Raises:
        RulesError, MissingColumn: see `condition_of`.
    """
    name = where.partition(" ")[2]
    try:
        expression = function()
    except (RulesError, MemoryError):
        raise
    except (Exception, SystemExit, pl.exceptions.PanicException) as error:
        raise RulesError(
            f"rule '{rule}': {name} failed: {type(error).__name__}: {_first_line(error)}", where=where
        ) from error
    if not isinstance(expression, pl.Expr):
        raise RulesError(
            f"rule '{rule}': {name} returned {type(expression).__name__}, not a Polars expression",
            where=where,
            fix="return an expression such as pl.col('amount') > 100; Kommuna evaluates it on the rows",
        )
    dtype = _checked_dtype(rule, expression, schema, where)
    if _RUNS_PYTHON in str(expression):
        expression = _of_each_row(expression, dtype, rule, where)
    if dtype == pl.Boolean and tag is not None:
        return expression, False
    if isinstance(dtype, pl.String | pl.Enum | pl.Categorical) and tag is None:
        return expression.cast(pl.String), True
    if tag is None:
        fix = "give the rule a tag" if dtype == pl.Boolean else "return a String expression with the name of a tag"
    else:
        fix = f"return a Boolean expression: true votes for '{tag}'; or remove the tag and return names of tags"
    has = f"the tag '{tag}'" if tag else "no tag"
    raise RulesError(
        f"rule '{rule}' has {has}, but {name} gives {dtype}",
        where=where,
        fix=fix,
    )


def computed(plan: pl.LazyFrame, messages: pl.LazyFrame, rules: RuleSet, write: Callable[[pl.LazyFrame], T]) -> T:
    """Runs the plan of a rule set's votes; an error names the rule that failed.

    Args:
        plan: the plan of the votes of `rules` on `messages`.
        messages: the messages.
        rules: the rule set.
        write: runs the plan and returns the result.

    Raises:
        RulesError: a rule fails on a row.
    """
    try:
        return write(plan)
    except RulesError as error:
        raise as_raised(error) from None
    except (KommunaError, MemoryError, KeyboardInterrupt):
        raise
    except BaseException as error:  # a team's function may raise anything, and its result may make Polars panic
        raise failing_rule(messages, rules) or error from None


def failing_rule(messages: pl.LazyFrame, rules: RuleSet) -> RulesError | None:
    """Returns the error of the first rule that reads columns and fails on some row; None if none of them fails.

    Args:
        messages: the messages, on which a query has failed.
        rules: the rules of the query.
    """
    try:
        messages.select(pl.all().count()).collect(engine="streaming")
    except Exception:
        return None  # reading the messages fails
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
                f"rule '{rule.name}' fails on a row: {_first_line_with_kind(error)}",
                where=rule.where,
                fix=condition.fix,
            )
    return None


def _of_each_row(expression: pl.Expr, dtype: pl.DataType, rule: str, where: str) -> pl.Expr:
    """Checks that an expression with a Python function has one value per row; Polars would repeat a single value."""

    def checked(columns: Sequence[pl.Series]) -> pl.Series:
        rows, values = len(columns[0]), columns[1]
        if len(values) != rows:
            raise RulesError(
                f"rule '{rule}': its function returned {len(values)} values for a batch of {rows} rows",
                where=where,
                fix="return one value per row of the Series, and null to abstain",
            )
        return values

    any_column = expression.meta.root_names()[0]
    return pl.map_batches([pl.col(any_column), expression], checked, return_dtype=dtype, is_elementwise=True)


def _plans(sql: str, *, schema: pl.Schema) -> bool:
    """Returns whether an expression can be evaluated on an empty table with the given columns."""
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
            raise  # the module exists, but a module that it imports does not
        raise RulesError(
            f"rule '{rule.name}': no module '{error.name}'",
            where=rule.where,
            fix="put the module into the team's bundle, or on sys.path",
        ) from None
    function = getattr(module, name, None)
    if not callable(function):
        hint = nearest(name, [n for n in vars(module) if callable(getattr(module, n))])
        raise RulesError(f"rule '{rule.name}': module '{module_name}' has no function '{name}'{hint}", where=rule.where)
    return function  # type: ignore[no-any-return]


def _checked_dtype(rule: str, expression: pl.Expr, schema: pl.Schema, where: str) -> pl.DataType:
    """Returns the type of an expression, evaluated on an empty table; checks its columns and that it works per row."""
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
    except (Exception, pl.exceptions.PanicException) as error:  # functions are called with an empty Series
        raise RulesError(f"rule '{rule}': {_first_line_with_kind(error)}", where=where) from None
    if not _by_row(expression, schema):
        raise RulesError(
            f"rule '{rule}' depends on other rows (an aggregate, a window or a sort)",
            where=where,
            fix="compute the value as a column in an earlier step, then compare with that column",
        )
    return dtype


def _by_row(expression: pl.Expr, schema: pl.Schema) -> bool:
    """Returns whether an expression's value depends on its own row only.

    This is what Polars' optimizer assumes when it moves a filter below the expression (`Expr.meta.is_row_separable`
    considers the outermost operation only).
    """
    plan = (
        pl.LazyFrame(schema={**schema, "_probe": pl.Boolean}).with_columns(_vote=expression).filter("_probe").explain()
    )
    return plan.find("FILTER") > plan.find("WITH_COLUMNS")


def _first_line_with_kind(error: BaseException) -> str:
    """Returns the first line of an error, preceded by its class unless it is one of Polars."""
    polars = isinstance(error, pl.exceptions.PolarsError)
    return _first_line(error) if polars else f"{type(error).__name__}: {_first_line(error)}"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
