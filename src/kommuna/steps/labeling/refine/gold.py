"""Gold: labeled rows to report on. Checked before the loop, read after it; nothing is chosen by them."""

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
from kommuna.steps.labeling.refine.judge import Mask, judge
from kommuna.steps.labeling.refine.loop import dev_codes, rules_after
from kommuna.steps.labeling.refine.rounds import Round
from kommuna.steps.statistics import macro_f1
from kommuna.steps.text import bare

log = structlog.get_logger()

_REPEATED = 0.05  # share of gold texts that stand in dev without a warning


@dataclass(frozen=True)
class Gold:
    """The g gold rows.

    Attributes:
        rows: with all their columns.
        truth: g x (k + u), which tags they have: those of the data, then those that neither dev nor the rules know.
    """

    rows: pl.DataFrame
    truth: Mask


def read_gold(data: RefineData, gold: pl.LazyFrame, *, label: str, more_tags: bool) -> Gold:
    """Reads and checks the gold rows.

    Args:
        data: the rows and tags that rules are refined on.
        gold: labeled messages, none of them a dev row.
        label: the column with the tag.
        more_tags: whether gold may have tags that dev and the rules do not have; rows with them count as missed.

    Raises:
        MissingColumn, SchemaDrift, DuplicateKeys: gold lacks a column, or holds a wrong value.
        DataError: no row is labeled, a tag is unknown, or a row is a dev row too.
    """
    label = label_column(gold, label, several_tags=data.several_tags)
    rows = read_labeled_rows(gold, several_tags=data.several_tags, key=data.key, label=label, what="gold")
    require_text(gold, data.text, what="gold")
    if rows[data.key].dtype != data.dev[data.key].dtype:
        raise SchemaDrift(
            f"column '{data.key}': dev has {data.dev[data.key].dtype}, gold {rows[data.key].dtype}",
            where="gold",
            fix="give both the same type",
        )
    unknown = [tag for tag in tags_of(rows[label]) if tag not in data.tags] if more_tags else []
    tags = (*data.tags, *unknown)
    truth = truth_matrix(rows[label], rows[data.key], tags, several_tags=data.several_tags, what="gold")
    shared = rows.join(data.dev, on=data.key, how="semi")
    if not shared.is_empty():
        raise DataError(
            f"{shared.height} of {rows.height} gold rows are dev rows too, by '{data.key}': rules that know a row say "
            "nothing of others by it",
            where=f"gold, {data.key} = {shared[data.key][0]!r}",
            fix="give gold rows that are not in dev",
        )
    known = {bare(text) for text in data.dev[data.text]} - {""}
    repeated = sum(bare(text) in known for text in rows[data.text])
    if repeated > _REPEATED * rows.height:
        log.warning(
            "refine.gold_texts_in_dev",
            rows=repeated,
            of=rows.height,
            hint="the figures on gold flatter the rules, unless such texts repeat by nature",
        )
    return Gold(rows, truth)


def gold_f1(data: RefineData, given: Sequence[Rule], rounds: Sequence[Round], gold: Gold, *, seed: int) -> list[float]:
    """What the label model alone says of the gold rows, with the rules as they were after each round.

    It is fitted as `label_messages` is, on the votes that the step leaves for dev.

    Returns:
        Macro F1, 0 to 1, of each round; a row without a vote has the default tag, or is wrong.
    """
    ever = {rule.name: rule for rule in (*given, *(one.rule for made in rounds for one in made.written))}
    place = {name: j for j, name in enumerate(ever)}
    sample, asked = (data.votes(table, list(ever.values())) for table in (data.sample, gold.rows))
    told = np.zeros_like(gold.truth)
    scores: list[float] = []
    for number, made in enumerate(rounds):
        if number and not made.written:
            scores.append(scores[-1])
            continue
        present = (*given, *(one.rule for one in rules_after(rounds[: number + 1])))
        own = np.array([place[rule.name] for rule in present], dtype=np.intp)
        dev = dev_codes(data, given, rounds[: number + 1])
        told[:, : len(data.tags)] = judge(data, dev, sample[:, own], seed=seed).assign(asked[:, own])
        scores.append(macro_f1(told, gold.truth))
    return scores
