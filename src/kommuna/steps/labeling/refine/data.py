"""The data of a refinement: dev rows with their tags and folds, and a sample of the unlabeled messages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kommuna.errors import DataError
from kommuna.spec.rules import Rule, RuleSet
from kommuna.steps.columns import require_columns, require_text
from kommuna.steps.labeled_rows import label_column, read_labeled_rows, tags_of, truth_matrix
from kommuna.steps.labeling.apply import vote_type, votes_plan
from kommuna.steps.labeling.refine.asking import AskedRules
from kommuna.steps.labeling.rules.expressions import computed
from kommuna.steps.labeling.votes.patterns import ABSTAIN, Codes, vote_codes
from kommuna.steps.llm.client import Llm
from kommuna.steps.statistics import folds

FOLDS = 10  # folds of dev: rules written without one fold, from nine tenths of dev, are close to those of all of dev
LEAST_DEV_ROWS = 50
SAMPLE = 20_000  # unlabeled messages on which rules are screened and the label model is fitted


@dataclass(frozen=True)
class RefineData:
    """The rows and tags of one refinement run.

    Attributes:
        tags: the k tags.
        multi_label: whether a row may have several tags.
        otherwise: the default tag, that of a row without a vote; None: there is none.
        dev: the d dev rows, with all columns.
        truth: d x k, whether the row has the tag.
        fold: d, the index of the row's fold.
        messages: all unlabeled messages.
        sample: s of the messages.
        key: the column that names a row.
        text: the column with the message.
        asked: the votes of `ask` rules.
    """

    tags: tuple[str, ...]
    multi_label: bool
    dev: pl.DataFrame
    truth: NDArray[np.bool_]
    fold: NDArray[np.int64]
    messages: pl.LazyFrame
    sample: pl.DataFrame
    key: str
    text: str
    asked: AskedRules
    otherwise: str | None = None

    @property
    def default(self) -> int | None:
        """The index of the default tag among the tags."""
        return None if self.otherwise is None else self.tags.index(self.otherwise)

    def only(self, rows: NDArray[np.bool_]) -> RefineData:
        """Returns the data with only the dev rows where `rows` is true."""
        return replace(self, dev=self.dev.filter(pl.Series(rows)), truth=self.truth[rows], fold=self.fold[rows])

    def rule_set(self, rules: Sequence[Rule]) -> RuleSet:
        """Returns the rule set of these rules, with the tags of the data."""
        return RuleSet(tags=self.tags, multi_label=self.multi_label, otherwise=self.otherwise, rules=tuple(rules))

    def code(self, rule: Rule) -> int:
        """Returns the code of the votes of a rule that has a tag."""
        tag = self.tags.index(rule.tag or "")
        return len(self.tags) + tag if rule.against else tag

    def votes(self, rows: pl.DataFrame, rules: Sequence[Rule]) -> Codes:
        """Applies rules to `dev`, `sample` or any other rows; returns the votes as rows x rules codes."""
        if not rules:
            return np.zeros((rows.height, 0), dtype=np.int16)
        rule_set = self.rule_set(rules)
        asked = self.asked.votes(rows) if any(rule.reads == "answers" for rule in rules) else None
        plan = votes_plan(rows.lazy(), rule_set, asked, key=self.key, text=self.text)
        table = computed(plan, rows.lazy(), rule_set, lambda plan: plan.collect(engine="streaming"))
        if not table[self.key].equals(rows[self.key]):
            table = rows.select(self.key).join(table, on=self.key, how="left", maintain_order="left")
        return np.stack(vote_codes(table, rule_set), axis=1)

    def votes_table(self, rules: Sequence[Rule], codes: Codes) -> pl.DataFrame:
        """Returns the rules' votes on dev (d x m codes) as a table, as `apply_rules` writes them."""
        rule_set = self.rule_set(rules)
        named = np.array([*self.tags, *(f"!{tag}" for tag in self.tags)])
        columns = {self.key: self.dev[self.key]}
        for j, rule in enumerate(rules):
            voted = codes[:, j] != ABSTAIN
            cast = (codes[:, j] < len(self.tags)).astype(np.int8) if self.multi_label else named[codes[:, j]]
            column = pl.Series(cast).cast(vote_type(rule_set), strict=False)
            columns[rule.name] = column.set(pl.Series(~voted), None)
        return pl.DataFrame(columns)


def read_refine_data(
    messages: pl.LazyFrame,
    dev: pl.LazyFrame,
    rules: RuleSet | None,
    *,
    multi_label: bool,
    key: str,
    text: str,
    label: str,
    seed: int,
    llm: Llm,
) -> RefineData:
    """Reads and checks the rows.

    Args:
        messages: the unlabeled messages: `key` and `text`.
        dev: the labeled rows: `key`, `text` and `label`.
        rules: the rules to start from; their tags and their `multi_label` apply. None: the tags are those of dev, the
            most frequent first, and the parameter `multi_label` applies.
        multi_label: whether a row may have several tags, without `rules`.
        key: the column that names a row.
        text: the column with the message.
        label: the column of `dev` with the tag, or tags.
        seed: seed of the folds and of the sample.
        llm: answers the questions of `ask` rules.

    Raises:
        MissingColumn, SchemaDrift, DuplicateKeys, RulesError: dev or messages lack a column, or hold a wrong value.
        DataError: there are no messages, or too few dev rows to write and evaluate rules.
    """
    multi_label = rules.multi_label if rules is not None else multi_label
    label = label_column(dev, label, multi_label=multi_label)
    require_columns(messages, [key], what="messages")
    require_text(messages, text, what="messages")
    labeled = read_labeled_rows(dev, multi_label=multi_label, key=key, label=label, what="dev")
    require_text(dev, text, what="dev")
    tags = rules.tags if rules is not None else tags_of(labeled[label])
    if not tags:
        raise DataError("no dev row has a tag", where="dev", fix="label dev rows: rules are written from them")
    truth = truth_matrix(labeled[label], labeled[key], tags, multi_label=multi_label, what="dev")
    _check_enough(truth, tags)
    sample = _sample(messages, key, seed)
    otherwise = rules.otherwise if rules is not None else None
    fold = folds(len(truth), FOLDS, seed=seed, strata=truth.argmax(axis=1))  # by the first tag
    given = rules.rules if rules is not None else ()
    asked = AskedRules(llm, given, tags, multi_label=multi_label, key=key, text=text)
    return RefineData(tags, multi_label, labeled, truth, fold, messages, sample, key, text, asked, otherwise)


def _check_enough(truth: NDArray[np.bool_], tags: tuple[str, ...]) -> None:
    twice = int((truth.sum(axis=0) >= 2).sum())
    if len(truth) < LEAST_DEV_ROWS or not twice:
        raise DataError(
            f"{len(truth)} dev rows are too few to write and evaluate rules: {twice} of {len(tags)} tags have "
            "two rows or more",
            where="dev",
            fix=f"label at least {LEAST_DEV_ROWS} rows; ten per tag are a good start",
        )


def _sample(messages: pl.LazyFrame, key: str, seed: int) -> pl.DataFrame:
    """Returns the rows with the smallest hashes of their keys, a sample that does not depend on the order of rows."""
    chosen = (
        messages.select(pl.col(key), _hash=pl.col(key).hash(seed)).bottom_k(SAMPLE, by="_hash").collect().select(key)
    )
    if chosen.is_empty():
        raise DataError("the table of messages is empty: coverage cannot be measured", where="messages")
    return messages.join(chosen.lazy(), on=key, how="semi").collect().sort(key)
