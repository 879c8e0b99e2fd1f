"""Reads hand-labeled rows: one definition of labels, empty labels and several tags for every step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
import structlog
from numpy.typing import NDArray

from kommuna.errors import DataError, SchemaDrift, nearest
from kommuna.steps.columns import require_columns, require_unique

log = structlog.get_logger()

SEPARATOR = "|"  # between several tags in a String column
TAGS_COLUMN = "tags"  # replaces the default label column `tag` if a row may have several tags


def label_column(table: pl.LazyFrame, label: str, *, multi_label: bool) -> str:
    """Returns the label's column: `tags` replaces the default `tag` if rows may have several.

    Args:
        table: the labeled rows.
        label: the name that the caller gave, `tag` by default.
        multi_label: whether rows may have several tags.
    """
    names = table.collect_schema().names()
    return TAGS_COLUMN if multi_label and label == "tag" and label not in names and TAGS_COLUMN in names else label


def read_labeled_rows(
    table: pl.LazyFrame,
    *,
    multi_label: bool,
    key: str,
    label: str,
    what: str,
    columns: Sequence[str] | None = None,
) -> pl.DataFrame:
    """Returns the rows of a table that have a key and a label, with the label normalised.

    If a row has one tag, rows with a null or blank label are left out and counted in a warning. If a row may have
    several, `"a | b"` means the tags a and b, and a null or blank label means that the row has none of the tags: in CSV
    a blank cell cannot be distinguished from an empty list. Reading the result again changes nothing.

    Args:
        table: n rows.
        multi_label: whether a row may have several tags, or none.
        key: the column that names a row.
        label: the column of the tag; several tags are a list, or a String separated by `|`.
        what: the table's name in messages: `dev` or `gold`.
        columns: the columns to keep besides `key` and the label; all if absent.

    Returns:
        At most n rows, in order: `key`, the columns, and the label's column: a String, or a list of Strings if rows may
        have several tags.

    Raises:
        MissingColumn: a column is missing.
        SchemaDrift: the label's column holds no tags.
        DataError: no row is labeled.
        DuplicateKeys: a key names several labeled rows.
    """
    label = label_column(table, label, multi_label=multi_label)
    schema = require_columns(table, [key, label, *(columns or ())], what=what)
    _check_type(schema[label], label, multi_label=multi_label, what=what)
    kept = table if columns is None else table.select(list(dict.fromkeys([key, *columns, label])))
    tags = _tags(pl.col(label), schema[label]) if multi_label else _blank_as_null(pl.col(label).cast(pl.String))
    rows = kept.filter(pl.col(key).is_not_null()).with_columns(tags.alias(label)).collect(engine="streaming")
    labeled = rows if multi_label else rows.filter(pl.col(label).is_not_null())
    if labeled.height < rows.height:
        log.warning("labeled_rows.without_label", what=what, column=label, left_out=rows.height - labeled.height)
    require_unique(labeled[key], what=what)
    if labeled.is_empty():
        raise DataError(
            f"{what} has no labeled rows", where=what, fix=f"label some messages by hand and give them as {what}"
        )
    return labeled


def truth_matrix(
    labels: pl.Series, keys: pl.Series, tags: Sequence[str], *, multi_label: bool, what: str
) -> NDArray[np.bool_]:
    """Returns which tags labeled rows have, `n x k`.

    Args:
        labels: n labels in the form of `read_labeled_rows`.
        keys: n keys, for messages.
        tags: the k tags.
        multi_label: whether a row may have several tags, or none.
        what: name of the table in messages: `dev` or `gold`.

    Raises:
        DataError: a label is none of the tags; names the value, the row and the nearest tag.
    """
    row = np.arange(len(labels))
    pairs = pl.DataFrame({"row": row, "tag": labels})
    pairs = pairs.explode("tag").drop_nulls("tag") if multi_label else pairs
    order = {tag: i for i, tag in enumerate(tags)}
    unknown = pairs.filter(~pl.col("tag").is_in(list(order)))
    if not unknown.is_empty():
        value = unknown["tag"][0]
        raise DataError(
            f"{what}: row {keys[int(unknown['row'][0])]!r} has the label '{value}', which is not one of the tags"
            f"{nearest(value, order)}; {unknown.height} such in all",
            where=f"{what}, column '{labels.name}'",
            fix="correct the label, or add the tag to the rule set",
        )
    truth = np.zeros((len(labels), len(order)), dtype=np.bool_)
    truth[pairs["row"].to_numpy(), pairs["tag"].replace_strict(order, return_dtype=pl.Int64).to_numpy()] = True
    return truth


def tags_of(labels: pl.Series) -> tuple[str, ...]:
    """Returns the tags that labels in the form of `read_labeled_rows` name, the most frequent first."""
    names = labels.explode() if isinstance(labels.dtype, pl.List) else labels
    counted = names.drop_nulls().rename("tag").value_counts()
    return tuple(counted.sort("count", "tag", descending=[True, False])["tag"])


def _check_type(kind: pl.DataType, label: str, *, multi_label: bool, what: str) -> None:
    inner = kind.inner if multi_label and isinstance(kind, pl.List) else kind
    if not isinstance(inner, pl.String | pl.Enum | pl.Categorical | pl.Null):
        wanted = "a tag, or tags separated by |" if multi_label else "a tag"
        raise SchemaDrift(f"column '{label}': expected {wanted}, found {kind}", where=what)


def _tags(label: pl.Expr, kind: pl.DataType) -> pl.Expr:
    lists = label if isinstance(kind, pl.List) else label.cast(pl.String).str.split(SEPARATOR)
    parts = lists.cast(pl.List(pl.String)).list.eval(_blank_as_null(pl.element()).drop_nulls())
    return parts.fill_null(pl.lit([], dtype=pl.List(pl.String)))


def _blank_as_null(text: pl.Expr) -> pl.Expr:
    stripped = text.str.strip_chars()
    return pl.when(stripped != "").then(stripped)
