"""The most informative errors of each rule on dev rows, and the figures of each tag there."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kommuna.spec.rules import RuleSet
from kommuna.steps.etl.mask import mask_pii
from kommuna.steps.labeling.report.ablation import Gains
from kommuna.steps.labeling.votes.labeled_votes import LabeledVotes
from kommuna.steps.labeling.votes.patterns import Codes
from kommuna.steps.report import row_text
from kommuna.steps.statistics import TagCounts

ERRORS = 10  # shown per rule
_CONFUSIONS = 3  # shown per tag

ERROR_COLUMNS: dict[str, type[pl.DataType]] = {
    "rule": pl.String, "key": pl.String, "text": pl.String,
    "vote": pl.String, "truth": pl.String, "assigned": pl.String,
}  # fmt: skip


def dev_texts(keys: pl.Series, dev: pl.LazyFrame, *, text: str, label: str) -> pl.DataFrame:
    """Returns key and text of the dev rows, masked even if they were masked before.

    In a table without the column `text`, the text of a row is made of its other columns, or null without any.

    Args:
        keys: d keys of the dev rows (`LabeledVotes.keys`), whose order the result has.
        dev: the table of dev rows.
        text: the column with the message.
        label: the column with the tag, which is left out.
    """
    names = dev.collect_schema().names()
    others = [name for name in names if name not in (keys.name, label)]
    if text in names:
        message = pl.col(text).cast(pl.String)
    elif others:
        message = pl.struct(others).map_elements(lambda row: row_text(row, others), return_dtype=pl.String)
    else:
        message = pl.lit(None, dtype=pl.String)
    shown = dev.filter(pl.col(keys.name).is_in(keys.implode())).select(keys.name, _text=message)
    shown = shown.unique(keys.name, keep="first")  # an unlabeled row may have the key of a labeled row
    rows = keys.to_frame().lazy().join(shown, on=keys.name, how="left", maintain_order="left")
    return mask_pii(rows.select(key=pl.col(keys.name).cast(pl.String), text="_text")).table.collect()


def rule_errors(dev: LabeledVotes, gains: Gains, texts: pl.DataFrame, rules: RuleSet) -> pl.DataFrame:
    """Returns up to ten wrong votes per rule, with the tag that all rules together assign to the row.

    They are ordered by the probability of the vote according to the weighted vote, the highest first: those errors are
    not corrected by other rules. Of rows with the same text only the first is returned.

    Args:
        dev: the dev rows: votes and true tags.
        gains: the result of the ablation, with the probabilities of the weighted vote.
        texts: `key` and `text` of the dev rows.
        rules: the rule set.

    Returns:
        Columns `ERROR_COLUMNS`, in the rules' order.
    """
    k = len(rules.tags)
    assigned = gains.assigned(dev, multi_label=rules.multi_label)
    lines = []
    for j, rule in enumerate(rules.rules):
        wrong = np.flatnonzero(wrong_votes(dev.votes[:, j], dev.truth))
        votes = dev.votes[wrong, j]
        yes = gains.probabilities[wrong, votes % k]
        probability = np.where(votes < k, yes, 1 - yes)
        seen: set[str] = set()
        for i in np.argsort(-probability, kind="stable"):
            row, code = int(wrong[i]), int(votes[i])
            key, text = texts.row(row)
            if (text or key) in seen:
                continue
            seen.add(text or key)
            vote = rules.tags[code] if code < k else f"not {rules.tags[code - k]}"
            lines.append((rule.name, key, text, vote, _names(dev.truth[row], rules), _names(assigned[row], rules)))
            if len(seen) == ERRORS:
                break
    return pl.DataFrame(lines, schema=ERROR_COLUMNS, orient="row")


def wrong_votes(votes: Codes, truth: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Returns whether each of one rule's d votes is wrong.

    Args:
        votes: d codes.
        truth: d x k, whether the row has the tag.
    """
    k = truth.shape[1]
    has = truth[np.arange(len(votes)), votes % k]
    return np.asarray((votes >= 0) & np.where(votes < k, ~has, has))


def tag_figures(dev: LabeledVotes, gains: Gains, rules: RuleSet) -> list[tuple[str, int, float, float, str]]:
    """Returns each tag's figures on dev, by the weighted vote; the lowest F1 first, without tags that have no dev row.

    Args:
        dev: the dev rows: votes and true tags.
        gains: the result of the ablation.
        rules: the rule set.

    Returns:
        The tag, its number of dev rows, the share of these with a vote, F1, and the tags that it is confused with.
    """
    assigned = gains.assigned(dev, multi_label=rules.multi_label)
    taken_for = dev.truth.T.astype(np.float32) @ (assigned & ~dev.truth)  # k x k rows
    unknown = dev.truth.T.astype(np.float32) @ ~assigned.any(axis=1)
    covered = dev.truth.T.astype(np.float32) @ dev.covered
    lines = []
    counts = TagCounts.of(assigned, dev.truth)
    for t, tag in enumerate(rules.tags):
        own = int(counts.true[t])
        if not own:
            continue
        most = np.argsort(-taken_for[t], kind="stable")[:_CONFUSIONS]
        confused = [f"{rules.tags[other]} {int(taken_for[t, other])}" for other in most if taken_for[t, other]]
        if unknown[t]:
            confused.append(f"nothing {int(unknown[t])}")
        lines.append((tag, own, float(covered[t] / own), float(counts.f1[t]), ", ".join(confused)))
    return sorted(lines, key=lambda line: line[3])


def _names(has: NDArray[np.bool_], rules: RuleSet) -> str:
    return ", ".join(rules.tags[t] for t in np.flatnonzero(has)) or "–"
