"""Dev rows: labeled rows joined by key with the rules' votes on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import structlog
from numpy.typing import NDArray

from kommuna.errors import DataError, SchemaDrift
from kommuna.spec.rules import RuleSet
from kommuna.steps.columns import require_columns, require_unique
from kommuna.steps.labeled_rows import label_column, read_labeled_rows, truth_matrix
from kommuna.steps.labeling.votes.patterns import ABSTAIN, Codes, vote_patterns

log = structlog.get_logger()


@dataclass(frozen=True)
class LabeledVotes:
    """The votes and the true tags of d dev rows.

    Attributes:
        votes: d x m codes, see `VotePatterns.votes`.
        truth: d x k, whether the row has the tag: one True per line, unless rows may have several tags.
        keys: d keys, if the rows are from a table.
    """

    votes: Codes
    truth: NDArray[np.bool_]
    keys: pl.Series | None = None

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def covered(self) -> NDArray[np.bool_]:
        """d, whether a rule votes on the row."""
        return np.asarray((self.votes != ABSTAIN).any(axis=1))

    @property
    def tag(self) -> NDArray[np.int64]:
        """d, the index of the row's one tag."""
        return np.asarray(self.truth.argmax(axis=1))

    def by_content(self) -> NDArray[np.intp]:
        """Returns the rows sorted by tags and votes, so that what is drawn or summed does not depend on their order.

        Tags are sorted by their frequency, so that their own order matters only if several are equally frequent.
        """
        k = self.truth.shape[1]
        cast = np.bincount(self.votes[self.votes != ABSTAIN] % k, minlength=k)
        tags = np.lexsort((cast, self.truth.sum(axis=0)))
        place = np.append(np.concatenate([np.argsort(tags), k + np.argsort(tags)]), ABSTAIN)
        return np.lexsort([*place[self.votes].T, *self.truth[:, tags].T])


def read_dev(
    dev_votes: pl.LazyFrame | None, dev: pl.LazyFrame | None, rules: RuleSet, *, key: str, label: str
) -> LabeledVotes | None:
    """Reads the dev rows that have votes and a label; None without dev rows.

    Args:
        dev_votes: votes of the same rules on the dev rows.
        dev: `key` and `label`, see `read_labeled_rows`.
        rules: the rule set.
        key: the column that names a row.
        label: the column with the tag.

    Raises:
        DataError: only one of the two tables is given, they have no common key, no row has a label, or a tag is
            unknown.
        MissingColumn, SchemaDrift, DuplicateKeys, RulesError: a column is missing or has a wrong type, a key has a
            duplicate, or a vote is not a tag.
    """
    if dev is None and dev_votes is None:
        return None
    if dev is None or dev_votes is None:
        given, lacking = ("dev", "dev_votes") if dev_votes is None else ("dev_votes", "dev")
        raise DataError(
            f"{given} is given, but {lacking} is not: dev rows need both labels and the rules' votes on them",
            fix="apply the same rules to the dev rows with apply_rules",
        )
    require_columns(dev_votes, [key], what="dev_votes")
    label = label_column(dev, label, multi_label=rules.multi_label)
    labels = read_labeled_rows(dev, multi_label=rules.multi_label, key=key, label=label, what="dev", columns=())
    votes = dev_votes.collect()
    require_unique(votes[key], what="dev_votes")
    if labels[key].dtype != votes[key].dtype:
        raise SchemaDrift(
            f"column '{key}': dev has {labels[key].dtype}, dev_votes {votes[key].dtype}", fix="give both the same type"
        )
    joined = votes.join(labels.rename({label: "_label"}), on=key, how="inner", maintain_order="left")
    if joined.is_empty():
        raise DataError(
            f"no key of the {labels.height} labeled dev rows is among the {votes.height} rows of dev_votes",
            where=f"column '{key}': dev {labels[key].head(3).to_list()}, dev_votes {votes[key].head(3).to_list()}",
            fix="dev_votes must be the votes on the rows of dev",
        )
    if joined.height < labels.height:
        log.warning("dev.rows_without_votes", labeled=labels.height, used=joined.height)
    patterns = vote_patterns(joined.drop("_label"), rules, key=key)
    truth = truth_matrix(
        joined["_label"].rename(label), joined[key], rules.tags, multi_label=rules.multi_label, what="dev"
    )
    return LabeledVotes(patterns.row_votes(), truth, joined[key])
