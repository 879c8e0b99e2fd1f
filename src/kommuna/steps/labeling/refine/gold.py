"""Gold rows: labeled rows to report on. They are checked before the loop, used after it, and influence no choice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import structlog

from kommuna.errors import DataError, SchemaDrift
from kommuna.spec.rules import Rule
from kommuna.steps.columns import require_text
from kommuna.steps.labeled_rows import label_column, read_labeled_rows, tags_of, truth_matrix
from kommuna.steps.labeling.refine.data import RefineData
from kommuna.steps.labeling.refine.evaluation import Mask, evaluate
from kommuna.steps.labeling.refine.loop import dev_codes, rules_after
from kommuna.steps.labeling.refine.rounds import Round
from kommuna.steps.statistics import macro_f1
from kommuna.steps.text import bare

log = structlog.get_logger()

_REPEATED = 0.05  # the largest share of gold texts that are also in dev without a warning


@dataclass(frozen=True)
class Gold:
    """The g gold rows.

    Attributes:
        rows: the rows with all columns.
        truth: g x (k + u), whether the row has the tag: the k tags of the data, then u tags that only gold has.
    """

    rows: pl.DataFrame
    truth: Mask


def read_gold(data: RefineData, gold: pl.LazyFrame, *, label: str, more_tags: bool) -> Gold:
    """Reads and checks the gold rows.

    Args:
        data: the rows and tags that rules are refined on.
        gold: labeled messages that are not dev rows.
        label: the column with the tag.
        more_tags: whether gold may have tags that dev and the rules lack; rows with such tags count as wrong.

    Raises:
        MissingColumn, SchemaDrift, DuplicateKeys: gold lacks a column, or holds a wrong value.
        DataError: no row is labeled, a tag is unknown, or a row is a dev row too.
    """
    label = label_column(gold, label, multi_label=data.multi_label)
    rows = read_labeled_rows(gold, multi_label=data.multi_label, key=data.key, label=label, what="gold")
    require_text(gold, data.text, what="gold")
    if rows[data.key].dtype != data.dev[data.key].dtype:
        raise SchemaDrift(
            f"column '{data.key}': dev has {data.dev[data.key].dtype}, gold {rows[data.key].dtype}",
            where="gold",
            fix="give both the same type",
        )
    unknown = [tag for tag in tags_of(rows[label]) if tag not in data.tags] if more_tags else []
    tags = (*data.tags, *unknown)
    truth = truth_matrix(rows[label], rows[data.key], tags, multi_label=data.multi_label, what="gold")
    shared = rows.join(data.dev, on=data.key, how="semi")
    if not shared.is_empty():
        raise DataError(
            f"{shared.height} of {rows.height} gold rows are dev rows too, by '{data.key}': such rows "
            "do not show how rules perform on other rows",
            where=f"gold, {data.key} = {shared[data.key][0]!r}",
            fix="use gold rows that are not in dev",
        )
    known = {bare(text) for text in data.dev[data.text]} - {""}
    repeated = sum(bare(text) in known for text in rows[data.text])
    if repeated > _REPEATED * rows.height:
        log.warning(
            "refine.gold_texts_in_dev",
            rows=repeated,
            of=rows.height,
            hint="the figures on gold are too good, unless such texts are frequent in messages too",
        )
    return Gold(rows, truth)


def gold_f1(data: RefineData, given: Sequence[Rule], rounds: Sequence[Round], gold: Gold, *, seed: int) -> list[float]:
    """Evaluates the label model on the gold rows, with the rules after each round.

    The model is fitted as in `label_messages`, on the `dev_votes` that the step returns.

    Args:
        data: the rows and tags that rules are refined on.
        given: the rules that the loop started from.
        rounds: round 0 and all further rounds.
        gold: the gold rows.
        seed: seed of the label model.

    Returns:
        Macro F1, 0 to 1, after each round; a row without a vote has the default tag, or is wrong.
    """
    all_rules = {rule.name: rule for rule in (*given, *(one.rule for made in rounds for one in made.written))}
    column = {name: j for j, name in enumerate(all_rules)}
    sample, gold_votes = (data.votes(table, list(all_rules.values())) for table in (data.sample, gold.rows))
    assigned = np.zeros_like(gold.truth)
    scores: list[float] = []
    for number, made in enumerate(rounds):
        if number and not made.written:
            scores.append(scores[-1])
            continue
        present = (*given, *(one.rule for one in rules_after(rounds[: number + 1])))
        own = np.array([column[rule.name] for rule in present], dtype=np.intp)
        dev = dev_codes(data, given, rounds[: number + 1])
        assigned[:, : len(data.tags)] = evaluate(data, dev, sample[:, own], seed=seed).assign(gold_votes[:, own])
        scores.append(macro_f1(assigned, gold.truth))
    return scores
