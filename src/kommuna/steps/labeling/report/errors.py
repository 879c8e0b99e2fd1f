"""Each rule's most telling errors on dev rows, and each tag's figures there."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kommuna.spec.rules import RuleSet
from kommuna.steps.etl.mask import mask_pii
from kommuna.steps.labeling.report.ablation import Gains
from kommuna.steps.labeling.votes.dev_rows import Dev
from kommuna.steps.labeling.votes.patterns import Codes
from kommuna.steps.report import row_text
from kommuna.steps.statistics import TagCounts

ERRORS = 10  # shown a rule
_CONFUSIONS = 3  # shown a tag

ERROR_COLUMNS: dict[str, type[pl.DataType]] = {
    "rule": pl.String, "key": pl.String, "text": pl.String, "said": pl.String, "truth": pl.String, "all_say": pl.String,
}  # fmt: skip


def dev_texts(keys: pl.Series, dev: pl.LazyFrame, *, text: str, label: str) -> pl.DataFrame:
    """Key and text of the dev rows in the order of their keys, masked here whatever was done to them before.

    A table without the column `text` is shown by its other columns; if there are none, texts are null.

    Args:
        keys: d keys of the dev rows that were read (`Dev.keys`).
        dev: the table that they were read from.
        text: the column with the message.
        label: the column with the tag, which is not shown.
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
    shown = shown.unique(keys.name, keep="first")  # an unlabeled row may have a labeled one's key
    rows = keys.to_frame().lazy().join(shown, on=keys.name, how="left", maintain_order="left")
    return mask_pii(rows.select(key=pl.col(keys.name).cast(pl.String), text="_text")).table.collect()


def rule_errors(dev: Dev, gains: Gains, texts: pl.DataFrame, rules: RuleSet) -> pl.DataFrame:
    """Returns up to ten wrong votes per rule, with the tag that all rules together assign to the row.

    The most telling stand first: those that the weighted vote believes most, so no other rule puts them right. Of
    rows with one text the first is shown.

    Args:
        dev: the dev rows: votes and true tags.
        gains: what the rules are worth together, by the weighted vote.
        texts: `key` and `text` of the dev rows.
        rules: the rule set.

    Returns:
        Columns `ERROR_COLUMNS`, in the rules' order.
    """
    k = len(rules.tags)
    says = gains.says(dev, several_tags=rules.several_tags)
    lines = []
    for j, rule in enumerate(rules.rules):
        wrong = np.flatnonzero(wrong_votes(dev.votes[:, j], dev.truth))
        said = dev.votes[wrong, j]
        yes = gains.probabilities[wrong, said % k]
        believed = np.where(said < k, yes, 1 - yes)
        seen: set[str] = set()
        for place in np.argsort(-believed, kind="stable"):
            row, code = int(wrong[place]), int(said[place])
            key, text = texts.row(row)
            if (text or key) in seen:
                continue
            seen.add(text or key)
            vote = rules.tags[code] if code < k else f"not {rules.tags[code - k]}"
            lines.append((rule.name, key, text, vote, _names(dev.truth[row], rules), _names(says[row], rules)))
            if len(seen) == ERRORS:
                break
    return pl.DataFrame(lines, schema=ERROR_COLUMNS, orient="row")


def wrong_votes(votes: Codes, truth: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether each of one rule's d votes is wrong."""
    k = truth.shape[1]
    has = truth[np.arange(len(votes)), votes % k]
    return np.asarray((votes >= 0) & np.where(votes < k, ~has, has))


def tag_figures(dev: Dev, gains: Gains, rules: RuleSet) -> list[tuple[str, int, float, float, str]]:
    """Each tag on dev, by the weighted vote: rows, share that any rule votes on, F1, and what it is taken for.

    The lowest F1 stands first; tags without a dev row are left out.
    """
    says = gains.says(dev, several_tags=rules.several_tags)
    taken_for = dev.truth.T.astype(np.float32) @ (says & ~dev.truth)  # k x k rows
    unknown = dev.truth.T.astype(np.float32) @ ~says.any(axis=1)
    covered = dev.truth.T.astype(np.float32) @ dev.covered
    lines = []
    counts = TagCounts.of(says, dev.truth)
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
