"""`Service`: a registered tagger as it answers a request: raw rows in, tags out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import polars as pl

from kommuna.errors import SchemaDrift
from kommuna.steps.training.tagger import EnsembleTables, Tagger

if TYPE_CHECKING:
    from kommuna.steps.etl.preparation import TextPreparation


@dataclass(frozen=True)
class Service:
    """A tagger, and how the texts that it learned from were prepared.

    Batches of `prepare_messages` and `predict` run the same code, so the same message gets the same tag and confidence.

    Attributes:
        tagger: the tagger.
        preparation: cleans and masks the texts; None where the rows come as the tagger learned them.
    """

    tagger: Tagger
    preparation: TextPreparation | None = None

    @classmethod
    def load(cls, tagger: Path, preparation: Path | None) -> Self:
        """Reads the files of a registered version."""
        if preparation is None:
            return cls(Tagger.load(tagger))
        from kommuna.steps.etl.preparation import TextPreparation

        return cls(Tagger.load(tagger), TextPreparation.from_yaml(preparation))

    def prepared(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Returns the rows as the tagger learned them.

        Raises:
            SchemaDrift: the text column holds no texts.
        """
        if isinstance(self.tagger.scorer, EnsembleTables):
            return rows
        text = self.tagger.columns[0]
        if text in rows.columns and rows.schema[text] not in (pl.String, pl.Null):
            raise SchemaDrift(f"column '{text}': expected String, found {rows.schema[text]}", fix="send texts")
        if self.preparation is None or text not in rows.columns:
            return rows
        return rows.with_columns(self.preparation.prepared(rows[text].cast(pl.String)))

    def parameters(self) -> dict[str, bool | float]:
        """Returns the parameters of `answer` with their defaults, for the model's signature."""
        accepted = self.tagger.acceptance
        own = {"min_confidence": accepted.min_confidence} if accepted and accepted.min_confidence is not None else {}
        return {"probabilities": False, "explain": False, **own}

    def answer(
        self,
        rows: pl.DataFrame,
        *,
        probabilities: bool = False,
        explain: bool = False,
        min_confidence: float | None = None,
    ) -> pl.DataFrame:
        """Tags raw rows, in their order.

        Args:
            rows: the model's columns.
            probabilities: whether to add the column `probabilities`, each tag's, in the order of the tags.
            explain: whether to add the column `words`: what each word adds to the score of the row's likeliest tag.
            min_confidence: from which probability tags are accepted without review; the model's own if absent.

        Returns:
            The columns of `predict`, without a key, and those asked for.

        Raises:
            MissingColumn, DataError: the rows do not fit the model.
            SpecError: a model of table rows has no words to explain.
        """
        ready = self.prepared(rows)
        tagger, accepted = self.tagger, self.tagger.acceptance
        if min_confidence is not None and accepted is not None:
            tagger = replace(tagger, acceptance=replace(accepted, min_confidence=min_confidence))
        found = tagger.predict_table(ready)
        added = {"words": pl.Series("words", self._words(ready))} if explain else {}
        return (found if probabilities else found.drop("probabilities")).with_columns(**added)

    def _words(self, rows: pl.DataFrame) -> list[list[dict[str, Any]]]:
        texts = rows[self.tagger.columns[0]].cast(pl.String).fill_null("").to_list()
        found = (self.tagger.explain(text) if text.strip() else None for text in texts)
        return [[{"word": word, "adds": adds} for word, adds in one.words] if one else [] for one in found]


def as_pandas(table: pl.DataFrame) -> Any:
    """Returns an answer as a pandas table of texts, numbers and lists. Arrow is not needed."""
    import pandas as pd

    columns = {name: _plain(table[name]) for name in table.columns}
    # As objects: pandas' own texts and numbers have NaN where there is none, which is not JSON.
    numbers = {name for name, column in columns.items() if column.dtype.is_numeric() and not column.null_count()}
    kinds = {name: None if name in numbers else object for name in columns}
    return pd.DataFrame({name: pd.Series(column.to_list(), dtype=kinds[name]) for name, column in columns.items()})


def from_pandas(table: Any) -> pl.DataFrame:
    """Returns the columns of a pandas table; a missing value becomes null. Arrow is not needed."""
    return pl.DataFrame([pl.Series(str(name), _values(table[name])) for name in table.columns])


def _values(column: Any) -> Any:
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biuf":
        return pl.Series(column.to_numpy(), nan_to_null=True)
    return [None if missing else value for value, missing in zip(column, column.isna(), strict=True)]


def _plain(column: pl.Series) -> pl.Series:
    """Returns tags as texts, and probabilities as lists."""
    if isinstance(column.dtype, pl.Enum):
        return column.cast(pl.String)
    if isinstance(column.dtype, pl.List) and isinstance(column.dtype.inner, pl.Enum):
        return column.cast(pl.List(pl.String))
    return column.arr.to_list() if isinstance(column.dtype, pl.Array) else column
