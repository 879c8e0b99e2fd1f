"""Finds the mistakes of highest confidence on gold, each with its words and the rules that voted."""

from __future__ import annotations

import numpy as np
import polars as pl

from kommuna.steps.columns import require_columns, require_unique
from kommuna.steps.report import row_text
from kommuna.steps.training.evaluation.scores import Chosen, Mistake
from kommuna.steps.training.explain import rules_with_votes
from kommuna.steps.training.fit.soft_logistic import Matrix
from kommuna.steps.training.tagger import EnsembleTables, Tagger

MOST = 20
SHOWN_CHARACTERS = 300  # of a text


def surest_mistakes(
    model: Tagger, frame: pl.DataFrame, truth: Chosen, p: Matrix, votes: pl.LazyFrame | None, *, key: str, text: str
) -> tuple[Mistake, ...]:
    """Returns the mistakes of highest confidence; for a model of tables, the row's features replace the text.

    With several tags per row, a mistake is a predicted tag that is wrong.

    Args:
        model: the tagger.
        frame: gold rows, with `key` and `text`.
        truth: `n x k`.
        p: `n x k`, the tagger's probabilities.
        votes: the rules' votes on the gold rows.
        key: the column that names a row.
        text: the text column.

    Raises:
        MissingColumn, DuplicateKeys: the votes have no key, or it names several rows.
    """
    tables = isinstance(model.scorer, EnsembleTables)
    wrong = model.chosen(p) & ~truth
    rows, columns = np.nonzero(wrong)
    surest = sorted(zip(rows.tolist(), columns.tolist(), strict=True), key=lambda at: (-p[at], at))[:MOST]
    keys = frame[key].cast(pl.String)
    rules = _rules(votes, [keys[row] for row, _ in surest], key)
    return tuple(
        Mistake(
            key=keys[row],
            text=_short(row_text(frame.row(row, named=True), model.columns) if tables else frame[text][row]),
            truth="|".join(model.tags[j] for j in np.flatnonzero(truth[row])),
            given=model.tags[column],
            confidence=float(p[row, column]),
            words=() if tables else model.explain(frame[text][row] or "", tag=model.tags[column]).words,
            rules=rules.get(keys[row], ()),
        )
        for row, column in surest
    )


def _rules(votes: pl.LazyFrame | None, keys: list[str], key: str) -> dict[str, tuple[tuple[str, str], ...]]:
    if votes is None or not keys:
        return {}
    require_columns(votes, [key], what="gold_votes")
    found = votes.with_columns(pl.col(key).cast(pl.String)).filter(pl.col(key).is_in(keys)).collect(engine="streaming")
    require_unique(found[key], what="gold_votes")
    return dict(zip(found[key].to_list(), rules_with_votes(found, key), strict=True))


def _short(text: str | None) -> str:
    text = " ".join((text or "").split())
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"
