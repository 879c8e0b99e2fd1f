"""Step: evaluates a tagger on gold rows, against the champion and simple baselines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import polars as pl
import structlog

from kommuna.errors import DataError, MissingColumn
from kommuna.spec.artifacts import Report
from kommuna.spec.choices import Share
from kommuna.spec.step import ALONE, NO_INPUT, StepContext
from kommuna.steps.columns import require_columns, require_unique
from kommuna.steps.frames import takes_frames
from kommuna.steps.labeled_rows import TAGS_COLUMN, truth_matrix
from kommuna.steps.statistics import TagCounts, calibration_error, interval, wilson
from kommuna.steps.training.champion import Champion, PyfuncModel
from kommuna.steps.training.confidence import predictions
from kommuna.steps.training.evaluation import against, page, scores
from kommuna.steps.training.evaluation.leakage import refuse_leakage
from kommuna.steps.training.evaluation.mistakes import surest_mistakes
from kommuna.steps.training.evaluation.scores import Chosen, Compared, Scores, TagScore
from kommuna.steps.training.evaluation.slices import slice_scores
from kommuna.steps.training.fit.soft_logistic import Matrix
from kommuna.steps.training.predict import features_of, require_features
from kommuna.steps.training.tables import TagSet, read_labeled
from kommuna.steps.training.tagger import Tagger, without_text

log = structlog.get_logger()


class Evaluated(NamedTuple):
    """Outputs of `evaluate`."""

    report: Report
    scores: Scores
    metrics: dict[str, float]


@takes_frames
def evaluate(
    model: Tagger,
    gold: pl.LazyFrame,
    dev: pl.LazyFrame,
    messages: pl.LazyFrame,
    dev_only: Tagger | None = None,
    gold_labels: pl.LazyFrame | None = None,
    champion: Champion | None = None,
    gold_votes: pl.LazyFrame | None = None,
    *,
    key: str = "id",
    text: str = "text",
    label: str = "tag",
    max_text_overlap: Share = 0.05,
    slices: Mapping[str, str] | None = None,
    title: str = "Evaluation",
    context: StepContext = ALONE,
) -> Evaluated:
    """Evaluates a tagger on gold, after checking that it was not trained on gold.

    Args:
        model: the tagger.
        gold: rows to report on: `key`, the features, `label`.
        dev: the rows that the model was chosen with; the majority-class baseline comes from them.
        messages: the rows that trained it; only keys are read.
        dev_only: the same classifier trained on the dev rows alone.
        gold_labels: labels of the gold rows by `label_messages`, for the baseline of the label model alone.
        champion: the registered model that is in use; one that Kommuna did not train is called through MLflow.
        gold_votes: votes on the gold rows by `apply_rules`; the report shows them beside each mistake.
        key: the column that names a row.
        text: the text column.
        label: the label's column in gold and dev.
        max_text_overlap: the largest share of gold rows whose text may be in dev.
        slices: named parts of gold: a SQL condition over its columns by name, `{"chat": "channel = 'chat'"}`.
        title: title of the report.
        context: the run of the step; the scores name the model, the champion and the gold rows by their digests.

    Returns:
        report: HTML with plots, and the mistakes of highest confidence with their words and rules. The texts of gold
            are shown unchanged, so give masked ones.
        scores: the metrics and curves as data.
        metrics: rows, accuracy (with several tags: of the whole set), accuracy_low and accuracy_high (95 %, Wilson),
            precision_macro, recall_macro, f1_macro (over the tags that gold has or the model predicts), ece and
            ece_before (with and without the model's calibration; the latter only if it has one), text_overlap,
            tags_never_seen; accepted (share of rows, or of predicted tags, that the model accepts without review by the
            threshold that it learned on dev) and accepted_precision (the share of them that is right; absent if it
            accepts none); worst_slice.accuracy (of the slices with 20 gold rows or more; absent if there are
            none); with several tags f1_micro, without_tag and gold_without_tag (share of rows
            that get no tag, and that have none); automatic (the largest share of rows, the most confident first,
            of which 95 % are right; with several tags the share of predicted tags; the threshold is chosen on these
            same rows); coverage (share of gold rows that the label model labels); and the same quality metrics as
            `champion.*`, `baseline.majority_class.*`, `baseline.label_model.*`, `baseline.dev_only.*`.

    Raises:
        Leakage: the model was trained on gold rows.
        MissingColumn, SchemaDrift, DataError, DuplicateKeys: gold does not match the model, or has no labeled row.
    """
    tags = TagSet(model.tags, model.multi_label)
    require_features(gold, model, text, what="gold")
    columns = [name for name in gold.collect_schema().names() if name not in (key, label)]
    frame, labels = read_labeled(gold, tags, what="gold", key=key, label=label, columns=columns)
    overlap = refuse_leakage(frame.lazy(), dev, messages, key=key, text=text, max_text_overlap=max_text_overlap)
    truth: Chosen = labels > 0.5
    p = _probabilities(model, frame, text, who="model")
    chosen = model.chosen(p)
    answered = predictions(p, truth, several=tags.several)
    metrics = {"rows": float(len(truth)), **scores.quality(truth, chosen, several=tags.several)}
    right = int((truth == chosen).all(axis=1).sum())
    metrics["accuracy_low"], metrics["accuracy_high"] = wilson(right, len(truth))
    metrics |= {"ece": calibration_error(*answered), "text_overlap": overlap}
    before = (
        None if model.calibration is None else predictions(_raw(model, frame, text, p), truth, several=tags.several)
    )
    if before is not None:
        metrics["ece_before"] = calibration_error(*before)
    metrics["tags_never_seen"] = float(sum(truth[:, model.tags.index(tag)].any() for tag in model.never_seen))

    if tags.several:
        metrics["without_tag"] = float((~chosen.any(axis=1)).mean())
        metrics["gold_without_tag"] = float((~truth.any(axis=1)).mean())

    others = {"baseline.majority_class": _majority(dev, tags, key=key, label=label, rows=len(truth))}
    if gold_labels is not None:
        others["baseline.label_model"] = _label_model(gold_labels, frame[key], tags, key=key)
        metrics["coverage"] = _coverage(gold_labels, frame[key], tags, key=key)
    if dev_only is not None:
        others["baseline.dev_only"] = _in_order(dev_only, frame, text, model.tags, who="dev_only")
    drawn = scores.resampled(truth, chosen)
    comparisons = []
    for name, other in others.items():
        figures = scores.quality(truth, other, several=tags.several)
        metrics |= {f"{name}.{figure}": value for figure, value in figures.items()}
        comparisons.append(scores.comparison(name, drawn, scores.resampled(truth, other), metrics, figures))
    per_tag = _per_tag(truth, chosen, p, model, drawn)
    predicted = None
    if champion is not None:
        if isinstance(champion, Tagger):
            predicted = _in_order(champion, frame, text, model.tags, who="champion")
        else:
            assert isinstance(champion, PyfuncModel)
            predicted = champion.chosen(frame, text, model.tags)
        known = champion.tags or model.tags
        versus = against.champion(truth, chosen, predicted, tags=model.tags, known=known, several=tags.several)
        metrics |= versus.metrics
        comparisons += versus.comparisons
        per_tag = against.with_champion(per_tag, truth, predicted, drawn, known=known)
    parts = slice_scores(slices or {}, frame, truth, chosen, predicted, several=tags.several)
    worst = min((part.accuracy for part in parts if part.judged and part.accuracy is not None), default=None)
    if worst is not None:
        metrics["worst_slice.accuracy"] = worst
    metrics["tags_fallen"] = float(sum(tag.has_fallen for tag in per_tag))
    metrics["worst_tag.f1"] = min(tag.f1 for tag in per_tag if tag.rows)
    points = scores.operating_points(p[chosen], truth[chosen])
    sure = scores.automatic(points)
    metrics["automatic"] = sure.coverage if sure else 0.0
    promise = scores.promise(model.acceptance, p[chosen], truth[chosen])
    metrics["accepted"] = promise.coverage if promise else 0.0
    if promise is not None and promise.precision is not None:
        metrics["accepted_precision"] = promise.precision

    result = Scores(
        rows=len(truth),
        multi_label=tags.several,
        metrics=metrics,
        per_tag=per_tag,
        confusions=scores.confusions(truth, chosen, model.tags),
        reliability=scores.reliability(*answered),
        reliability_before=scores.reliability(*before) if before else (),
        comparisons=tuple(comparisons),
        operating=scores.thinned(points),
        compared=_compared(context.inputs),
        automatic=sure,
        promise=promise,
        slices=parts,
    )
    log.info("classifier.evaluated", **{name: round(value, 4) for name, value in metrics.items()})
    mistakes = surest_mistakes(model, frame, truth, p, gold_votes, key=key, text=text)
    return Evaluated(page.report(result, mistakes, title=title), result, metrics)


def _compared(digests: Mapping[str, str]) -> Compared | None:
    """Returns what was evaluated, from the digests of the inputs; None where nothing ran the step, as in a notebook."""
    if "model" not in digests or "gold" not in digests:
        return None
    champion = digests.get("champion", NO_INPUT)
    return Compared(
        model=digests["model"],
        gold=digests["gold"],
        dev=digests.get("dev", ""),
        messages=digests.get("messages", ""),
        champion="" if champion == NO_INPUT else champion,
    )


def _probabilities(model: Tagger, frame: pl.DataFrame, text: str, *, who: str) -> Matrix:
    try:
        return model.probabilities(_features(model, frame, text))
    except (MissingColumn, DataError) as error:
        raise type(error)(f"gold, scored by {who}: {error.what}", where=error.where, fix=error.fix) from None


def _raw(model: Tagger, frame: pl.DataFrame, text: str, p: Matrix) -> Matrix:
    """Returns the probabilities without calibration; rows without text stay 0, as in `p`."""
    return np.where(without_text(p)[:, None], np.float32(0), model.uncalibrated(_features(model, frame, text)))


def _features(model: Tagger, frame: pl.DataFrame, text: str) -> pl.DataFrame:
    named = {given: name for given, name in features_of(model, text).items() if given in frame.columns}
    return frame.select([pl.col(given).alias(name) for given, name in named.items()])


def _in_order(model: Tagger, frame: pl.DataFrame, text: str, tags: tuple[str, ...], *, who: str) -> Chosen:
    """Returns the tags that another model gives, in this model's order; other tags are left out."""
    theirs = model.chosen(_probabilities(model, frame, text, who=who))
    out = np.zeros((len(theirs), len(tags)), dtype=np.bool_)
    for j, tag in enumerate(tags):
        if tag in model.tags:
            out[:, j] = theirs[:, model.tags.index(tag)]
    return out


def _majority(dev: pl.LazyFrame, tags: TagSet, *, key: str, label: str, rows: int) -> Chosen:
    """Returns the most frequent tag (or set of tags) of the dev rows, for every row."""
    _, labels = read_labeled(dev, tags, what="dev", key=key, label=label, columns=[])
    kinds, counts = np.unique(labels, axis=0, return_counts=True)
    return np.tile(kinds[counts.argmax()] > 0.5, (rows, 1))


def _label_model(labels: pl.LazyFrame, keys: pl.Series, tags: TagSet, *, key: str) -> Chosen:
    """Returns the label model's tags of the gold rows; a row that it cannot label has none, and counts as wrong."""
    column = _gold_column(labels, keys, tags, key=key)
    known = np.flatnonzero(column.is_not_null().to_numpy())
    out = np.zeros((len(keys), len(tags.tags)), dtype=np.bool_)
    own = column.drop_nulls().cast(pl.List(pl.String) if tags.several else pl.String)
    out[known] = truth_matrix(own, keys.gather(known), tags.tags, multi_label=tags.several, what="gold_labels")
    return out


def _coverage(labels: pl.LazyFrame, keys: pl.Series, tags: TagSet, *, key: str) -> float:
    return 1.0 - _gold_column(labels, keys, tags, key=key).null_count() / len(keys)


def _gold_column(labels: pl.LazyFrame, keys: pl.Series, tags: TagSet, *, key: str) -> pl.Series:
    """Returns the label model's tags in the order of the gold keys."""
    name = TAGS_COLUMN if tags.several else "tag"
    require_columns(labels, [key, name], what="gold_labels")
    found = labels.select(pl.col(key).cast(pl.String), name, pl.lit(True).alias("_found")).collect(engine="streaming")
    wanted = pl.DataFrame({key: keys.cast(pl.String)})
    require_unique(found[key], what="gold_labels")
    joined = wanted.join(found, on=key, how="left", maintain_order="left")
    if joined["_found"].null_count():
        row = joined.filter(pl.col("_found").is_null())[key][0]
        raise DataError(
            f"gold_labels has no row '{row}'; {joined['_found'].null_count()} gold rows are missing in all",
            fix="apply the rules and the label model to the same gold rows",
        )
    return joined[name]


def _per_tag(truth: Chosen, chosen: Chosen, p: Matrix, model: Tagger, drawn: scores.Resampled) -> tuple[TagScore, ...]:
    counts = TagCounts.of(chosen, truth)
    found = []
    for j, tag in enumerate(model.tags):
        given = chosen[:, j]
        sure = scores.automatic(scores.operating_points(p[given, j], truth[given, j]))
        low, high = interval(drawn.f1[:, j]) if truth[:, j].any() else (None, None)
        score = TagScore(
            tag=tag,
            rows=int(counts.true[j]),
            precision=float(counts.precision[j]),
            recall=float(counts.recall[j]),
            f1=float(counts.f1[j]),
            f1_low=low,
            f1_high=high,
            never_seen=tag in model.never_seen,
            automatic=(sure.coverage if sure else 0.0) if given.any() else None,
        )
        found.append(score)
    return tuple(found)
