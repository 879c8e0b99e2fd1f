"""Step: votes to labels, by a label model."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
import polars as pl
import structlog
from numpy.typing import NDArray

from kommuna.errors import DataError, SchemaDrift
from kommuna.spec import choices
from kommuna.spec.resources import Memory
from kommuna.spec.rules import RuleSet
from kommuna.steps.columns import require_columns, require_unique
from kommuna.steps.cores import side_by_side
from kommuna.steps.frames import takes_frames
from kommuna.steps.labeling.models.base import HeldOut
from kommuna.steps.labeling.models.calibrated import calibrated, dev_calibration_error, dev_figures
from kommuna.steps.labeling.models.cross_fit import cross_fitted
from kommuna.steps.labeling.models.default_tag import assign_tags, confidence, likeliest_tags, with_default
from kommuna.steps.labeling.models.fitting import FittedLabelModel, fit_label_model
from kommuna.steps.labeling.models.registry import Settings, model_named
from kommuna.steps.labeling.votes.grades import Grades
from kommuna.steps.labeling.votes.labeled_votes import LabeledVotes, read_dev
from kommuna.steps.labeling.votes.patterns import VotePatterns, decided, unanimous, vote_patterns

log = structlog.get_logger()

_AT_ONCE = 8_000  # patterns predicted together: with 50 tags their logits fit a core's cache
_LINE = "_line"  # the column with the index of a row's pattern among the labeled patterns
_FEW = 50_000  # patterns that are searched first for a vote for each tag; usually enough


class Labeled(NamedTuple):
    """The outputs of `label_messages`."""

    labels: pl.LazyFrame
    gold_labels: pl.LazyFrame | None
    cross_fitted: pl.LazyFrame | None
    metrics: dict[str, float]


@takes_frames
def label_messages(
    votes: pl.LazyFrame,
    rules: RuleSet,
    dev_votes: pl.LazyFrame | None = None,
    dev: pl.LazyFrame | None = None,
    gold_votes: pl.LazyFrame | None = None,
    *,
    model: choices.LabelModelName = "kommuna",
    key: str = "id",
    label: str = "tag",
    seed: choices.Seed = 0,
    iterations: choices.Count = 50,
    epochs: choices.Count = 500,
    memory: Memory = "4Gi",
) -> Labeled:
    """Labels each row by its votes: a tag and a probability.

    Args:
        votes: the votes on the rows to label, from `apply_rules`. With dev rows, votes with a low confidence are
            weighed apart (`Grades`).
        rules: the rule set that was applied.
        dev_votes: votes of the same rules on the dev rows.
        dev: the dev rows: `key` and `label`.
        gold_votes: votes of the same rules on the gold rows. The fitted model labels them without learning from
            them, so that the label model alone can be evaluated.
        model: the label model's name; `snorkel` needs torch.
        key: the column that names a row.
        label: the column of `dev` with the true tag; where rows have several tags, a list or a String with `|` between.
        seed: seed of the folds of dev rows, and of Snorkel's initial values.
        iterations: the largest number of EM steps of `dawid_skene`.
        epochs: training epochs of `snorkel` and `snorkel_fast`.
        memory: memory limit of `snorkel`, such as `4Gi`.

    Returns:
        labels: `key`; `tag`, an Enum of the tags; `confidence`, Float32, the tag's probability; `probabilities`, an
            Array of k in the tags' order. Where rows may have several tags, the second column is `tags`, a list of
            the tags with a probability of one half or more, or, with dev rows, of the tags with a vote and a
            probability above the threshold that maximizes the tag's expected F1 (`f1_thresholds`); `confidence` is
            then that of the least certain yes or no. A row without a vote has the rule set's default tag, with the
            probabilities of `undecided_shares`; without a default tag all three are null. With dev rows
            probabilities are calibrated on them (`Calibration`).
        gold_labels: the same for the gold rows; None without `gold_votes`.
        cross_fitted: dev rows and a sample of the messages, predicted without each fold of the dev rows
            (`cross_fitted`), so that `train_classifier` can be evaluated on the same dev rows without bias; None
            without dev rows.
        metrics: rows, labeled (share of rows), confidence (mean), patterns, tags_without_votes, contradicted (share of
            rows whose votes are all for one tag, but whose label is another); with a default tag left_to_default
            (share of rows without a vote). With dev rows, all cross-fitted: dev_rows, dev_too_few (1 if there are
            fewer dev rows than tags), dev_coverage, dev_accuracy (an unknown row counts as wrong) and
            dev_accuracy_labeled, or dev_f1_micro and dev_f1_macro; dev_left_right (the share of dev rows without a
            vote that have the default tag); dev_calibration_error, and dev_calibration_error_before (without
            calibration).

    Raises:
        SpecError: the model is unknown, or a parameter is out of range.
        RulesError, DataError, SchemaDrift, LimitExceeded: see `read_dev`, `vote_patterns` and the models.
    """
    started = time.perf_counter()
    new_model = model_named(model, Settings(seed=seed, iterations=iterations, epochs=epochs, memory=memory))
    if dev is not None and dev_votes is not None:  # without dev rows nothing tells what a confidence is worth
        grades = Grades.of(votes, rules)
        rules, votes, dev_votes = grades.rules, grades.split(votes), grades.split(dev_votes)
        gold_votes = None if gold_votes is None else grades.split(gold_votes)
    patterns, keys = _patterns(votes, rules, key, "votes")
    dev_rows = read_dev(dev_votes, dev, rules, key=key, label=label)
    if dev_rows is not None and dev_rows.keys is not None and dev_rows.keys.dtype != keys.dtype:
        raise SchemaDrift(
            f"column '{key}': votes has {keys.dtype}, dev {dev_rows.keys.dtype}", fix="give both the same type"
        )
    metrics = {"rows": float(patterns.rows), "patterns": float(len(patterns.counts))}
    metrics["tags_without_votes"] = float(_warn_of_silent_tags(patterns))
    fit = fit_label_model(new_model, patterns, dev_rows, seed=seed)
    held_out = None
    if dev_rows is None or fit.held_out is None:
        fit = with_default(fit, patterns, None)
    else:
        fit, held_out, figures = _judged(fit, fit.held_out, dev_rows, patterns)
        metrics |= figures
    cross_fitted_rows = _cross_fitted(held_out, dev_rows, keys, patterns, rules, seed=seed)
    labels, mean_confidence, contradicted = _labels(fit, keys, patterns, rules, f"the label model '{model}'")
    gold_labels = None
    if gold_votes is not None:
        gold_patterns, gold_keys = _patterns(gold_votes, rules, key, "gold_votes")
        gold_labels, *_ = _labels(fit, gold_keys, gold_patterns, rules, f"the label model '{model}'")
    metrics["labeled"] = float(patterns.counts[patterns.labeled].sum() / patterns.rows)
    if rules.otherwise is not None:
        metrics["left_to_default"] = float(patterns.counts[patterns.left].sum() / patterns.rows)
    metrics["confidence"] = mean_confidence
    metrics["contradicted"] = contradicted / patterns.rows
    if contradicted:
        log.warning(
            "label.unanimous_votes_contradicted",
            rows=contradicted,
            hint="all their votes are for one tag, but the dev rows favour another: see these rules in the rule report",
        )
    log.info(
        "messages.labeled",
        model=model,
        rows=patterns.rows,
        patterns=len(patterns.counts),
        labeled=round(metrics["labeled"], 4),
        seconds=round(time.perf_counter() - started, 3),
    )
    return Labeled(labels, gold_labels, cross_fitted_rows, metrics)


def _patterns(votes: pl.LazyFrame, rules: RuleSet, key: str, where: str) -> tuple[VotePatterns, pl.Series]:
    """Returns the patterns of a votes table and its checked key column; the table itself can be freed."""
    require_columns(votes, [key], what=where)
    table = votes.collect(engine="streaming")
    require_unique(table[key], what=where)
    if table.is_empty():
        raise DataError("the votes have no rows: there is nothing to learn from", where=where)
    return vote_patterns(table, rules, key=key), table[key]


def _judged(
    fit: FittedLabelModel, held_out: HeldOut, dev: LabeledVotes, patterns: VotePatterns
) -> tuple[FittedLabelModel, HeldOut, dict[str, float]]:
    """Calibrates a model on dev rows; returns it, its cross-fitted predictions of them, and its figures on them."""
    several, default = patterns.multi_label, patterns.default
    if len(dev) < len(patterns.tags):
        log.warning(
            "label.few_dev_rows",
            dev_rows=len(dev),
            tags=len(patterns.tags),
            hint="too few for the tags' shares; kommuna learns from as many as tags, and from ten at least",
        )
    fixed = fit if fit.calibrated else calibrated(fit, held_out, dev)
    fixed = with_default(fixed, patterns, dev)
    rest = fixed.held_out or held_out
    left = ~decided(dev.votes, len(patterns.tags), default)
    before = (
        np.where(left[:, None], rest.probabilities, held_out.probabilities)
        if default is not None
        else held_out.probabilities
    )
    figures = {
        "dev_rows": float(len(dev)),
        "dev_too_few": float(len(dev) < len(patterns.tags)),
        "dev_coverage": float(dev.covered.mean()),
        **dev_figures(rest.probabilities, dev, multi_label=several, default=default, thresholds=fixed.thresholds),
        "dev_calibration_error": dev_calibration_error(rest.probabilities, dev, multi_label=several, default=default),
        "dev_calibration_error_before": dev_calibration_error(before, dev, multi_label=several, default=default),
    }
    if default is not None and left.any():
        figures["dev_left_right"] = float(dev.truth[left, default].mean())
        _warn_of_a_likelier_tag(dev.truth[left], patterns.tags, default)
    return fixed, rest, figures


def _cross_fitted(
    held_out: HeldOut | None,
    dev: LabeledVotes | None,
    keys: pl.Series,
    patterns: VotePatterns,
    rules: RuleSet,
    *,
    seed: int,
) -> pl.LazyFrame | None:
    """`cross_fitted`; None without dev rows, or where they have no key."""
    if held_out is None or dev is None or dev.keys is None:
        return None
    known = dev.covered | (rules.otherwise is not None)
    return cross_fitted(held_out, dev.keys, known, keys, patterns, seed=seed).lazy()


def _labels(
    fit: FittedLabelModel, keys: pl.Series, patterns: VotePatterns, rules: RuleSet, who: str
) -> tuple[pl.LazyFrame, float, int]:
    """Returns the labels of all rows (lazy), their mean confidence, and how many contradict unanimous votes.

    Each pattern is predicted once, however many rows have it.
    """
    parts = [slice(start, start + _AT_ONCE) for start in range(0, len(patterns.counts), _AT_ONCE)]
    by_pattern = pl.concat(side_by_side(lambda part: _pattern_labels(fit, patterns, part, rules, keys, who), parts))
    counts = patterns.counts[patterns.labeled]
    mean_confidence = (by_pattern["confidence"].cast(pl.Float64).to_numpy() * counts).sum()
    line = pl.Series(np.cumsum(patterns.labeled) - 1, dtype=pl.Int32).set(pl.Series(~patterns.labeled), None)
    rows = pl.LazyFrame({keys.name: keys, _LINE: line.gather(patterns.row_pattern)})

    def labeled(part: pl.DataFrame) -> pl.DataFrame:
        return part.drop(_LINE).hstack(by_pattern.select(pl.all().gather(part[_LINE])))

    # A join would take 1.5 times as long, and three times the memory while labels are written.
    labels = rows.map_batches(labeled, schema={keys.name: keys.dtype, **by_pattern.schema}, streamable=True)
    contradicted = 0
    if not rules.multi_label:
        given_tag = by_pattern["tag"].to_physical().cast(pl.Int64).to_numpy()
        agreed = unanimous(patterns.votes, len(rules.tags))[patterns.labeled]
        contradicted = int(counts[(agreed >= 0) & (agreed != given_tag)].sum())
    return labels, float(mean_confidence / max(counts.sum(), 1)), contradicted


def _pattern_labels(
    fit: FittedLabelModel, patterns: VotePatterns, part: slice, rules: RuleSet, keys: pl.Series, who: str
) -> pl.DataFrame:
    """Predicts the labels of some patterns: those with a vote, or all of them if there is a default tag.

    Raises:
        DataError: a probability is not a number.
    """
    probabilities = fit.predict(patterns.votes[part])
    labeled = patterns.labeled[part]
    lost = part.start + np.flatnonzero(labeled & ~np.isfinite(probabilities).all(axis=1))
    if len(lost):
        row = int(np.flatnonzero(patterns.row_pattern == lost[0])[0])
        raise DataError(
            f"{who} gives probabilities that are not numbers for {int(patterns.counts[lost].sum())} rows",
            where=f"first of row {keys.name} = {keys[row]!r}, with {int((patterns.votes[lost[0]] >= 0).sum())} votes",
            fix="take model='kommuna', or 'snorkel_fast' for the library's model without its underflow",
        )
    enum = pl.Enum(rules.tags)
    tags = pl.Series(rules.tags, dtype=enum)
    if rules.multi_label:
        assigned = assign_tags(
            probabilities,
            patterns.votes[part],
            default=patterns.default,
            multi_label=True,
            thresholds=fit.thresholds,
        )
        yes = [np.flatnonzero(line).tolist() for line in assigned]
        named = pl.Series("tags", [tags.gather(line).to_list() for line in yes], dtype=pl.List(enum))
        certainty = confidence(probabilities, assigned)
    else:
        tag = likeliest_tags(probabilities, patterns.votes[part], default=patterns.default)
        named = tags.gather(tag).rename("tag")
        certainty = probabilities[np.arange(len(tag)), tag]
    return pl.DataFrame(
        {
            named.name: named,
            "confidence": pl.Series(certainty, dtype=pl.Float32),
            "probabilities": pl.Series(probabilities.astype(np.float32), dtype=pl.Array(pl.Float32, len(rules.tags))),
        }
    ).filter(pl.Series(labeled))


def _warn_of_a_likelier_tag(left: NDArray[np.bool_], tags: tuple[str, ...], default: int) -> None:
    """Warns if another tag than the default is more frequent among the u dev rows without a vote (`left`, u x k)."""
    rows = left.sum(axis=0)
    if rows.max() > rows[default]:
        log.warning(
            "label.default_tag_not_likeliest",
            default=tags[default],
            dev_rows=int(rows[default]),
            likeliest=tags[int(rows.argmax())],
            its_dev_rows=int(rows.max()),
            hint="of dev rows without a vote; write rules for that tag, or make it the default",
        )


def _warn_of_silent_tags(patterns: VotePatterns) -> int:
    voted = np.zeros(2 * len(patterns.tags) + 1, dtype=np.bool_)  # the last stands for abstentions
    for votes in patterns.votes.T:
        voted[votes[:_FEW]] = True
    if not voted[: len(patterns.tags)].all():  # a rare tag may first occur in a later pattern
        for votes in patterns.votes.T:
            voted[votes] = True
    silent = [tag for i, tag in enumerate(patterns.tags) if not voted[i] and i != patterns.default]
    if silent:
        log.warning("label.tags_without_votes", tags=silent, hint="no rule ever votes for them")
    return len(silent)
