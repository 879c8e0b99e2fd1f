"""Renders the evaluation as a page: baselines, tags, confusions, mistakes and calibration."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup, escape

from kommuna.spec.artifacts import Report
from kommuna.steps.report import ACCENT, BAD, BAND, GOOD, INK, MUTED, collapsed, page, plot, table
from kommuna.steps.training.confidence import LEAST_ROWS
from kommuna.steps.training.evaluation.scores import ENOUGH_ROWS, TARGET, Comparison, Mistake, Scores

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_BARS = 60  # tags in the plot; the table has all
SHOWN_WORDS = 4
SHOWN_RULES = 8
LEAST_AUTOMATIC = 5  # tags that are named
MOST_CONFUSED = 14  # tags in the heat map
_NAMES = {
    "baseline.majority_class": "majority class",
    "baseline.label_model": "label model alone",
    "baseline.dev_only": "dev rows alone",
    "champion": "champion",
}


def report(scores: Scores, mistakes: Sequence[Mistake] = (), *, title: str) -> Report:
    """Renders the page of one evaluation.

    Args:
        scores: the metrics.
        mistakes: the mistakes to show.
        title: the heading.
    """
    m = scores.metrics
    figures = [
        ("gold rows", f"{scores.rows:,}"),
        ("macro F1", f"{m['f1_macro']:.3f}"),
        ("all tags right" if scores.multi_label else "accuracy", f"{m['accuracy']:.3f}"),
        ("95 % interval", f"{m['accuracy_low']:.3f} to {m['accuracy_high']:.3f}"),
        *(_of_multi_label(m) if scores.multi_label else []),
        (f"accepted without review at {TARGET:.0%} precision", f"{m['automatic']:.1%}"),
        *_promised(scores),
        ("calibration error", f"{m['ece']:.3f}"),
        *([("label model covers", f"{m['coverage']:.1%}")] if "coverage" in m else []),
    ]
    sections = [
        ("Against the champion and plain baselines", _compared(scores)),
        (f"How much can be accepted without review at {TARGET:.0%} precision?", _automatic(scores)),
        ("F1 by tag, worst first", _by_tag(scores)),
        (
            "Missed tags, and those given instead" if scores.multi_label else "Confusion between tags",
            _confused(scores),
        ),
        ("Confident mistakes", _mistakes(mistakes)),
        ("Calibration: is the confidence as accurate as it claims?", _reliability(scores)),
        ("Every tag", _tags_table(scores)),
    ]
    if scores.slices:
        sections.insert(2, ("Slices", _slices(scores)))
    unseen = [t.tag for t in scores.per_tag if t.never_seen]
    lead = f"{len(scores.per_tag)} tags on {scores.rows:,} rows that the model has not seen."
    if unseen:
        sections.insert(0, ("Tags without a training row", _unseen(unseen)))
    return page(title, lead, figures=figures, sections=sections)


def _of_multi_label(m: dict[str, float]) -> list[tuple[str, str]]:
    without = f"{m['without_tag']:.1%} ({m['gold_without_tag']:.1%} in gold)"
    return [("micro F1", f"{m['f1_micro']:.3f}"), ("rows given no tag", without)]


def _promised(scores: Scores) -> list[tuple[str, str]]:
    promise = scores.promise
    if promise is None or promise.precision is None:
        return []
    return [(f"right of the {promise.coverage:.1%} that the model accepts", f"{promise.precision:.1%}")]


def _unseen(tags: list[str]) -> Markup:
    return Markup('<p class="bad">The model cannot give: {}. Label rows or write rules for them.</p>').format(
        escape(", ".join(tags))
    )


def _compared(scores: Scores) -> Markup:
    m = scores.metrics
    accuracy = "all tags right" if scores.multi_label else "accuracy"
    rows = [("this model", m["f1_macro"], m["accuracy"])]
    rows += [(name, m[f"{k}.f1_macro"], m[f"{k}.accuracy"]) for k, name in _NAMES.items() if f"{k}.accuracy" in m]

    def draw(axes: Axes) -> None:
        at = np.arange(len(rows))[::-1]
        axes.barh(at + 0.2, [r[1] for r in rows], 0.38, color=ACCENT, label="macro F1")
        axes.barh(at - 0.2, [r[2] for r in rows], 0.38, color=MUTED, label=accuracy)
        low, high = m["accuracy_low"], m["accuracy_high"]
        axes.plot([low, high], [at[0] - 0.2] * 2, color=INK, linewidth=1.5)
        axes.set_yticks(at, [r[0] for r in rows])
        axes.set_xlim(0, 1)
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)

    gains = {_NAMES[c.name]: c for c in scores.comparisons}
    body = table(
        ["", "macro F1", accuracy, "macro F1: this model's gain", f"{accuracy}: this model's gain"],
        [(*row, *(_gains(gains[row[0]]) if row[0] in gains else (None, None))) for row in rows],
    )
    note = Markup(
        "<p>In brackets the 95 % interval of the gain on the same rows (paired bootstrap): where it holds 0, nothing "
        "shows that one is better.</p>"
    )
    return plot(draw, height=0.9 + 0.55 * len(rows)) + body + (note if gains else Markup("")) + _left_out(scores)


def _left_out(scores: Scores) -> Markup:
    """Renders what the champion is not compared on, and which tags certainly fall below it."""
    out = Markup("")
    for c in scores.comparisons:
        if c.without:
            out += Markup(
                "<p>The champion does not know {}. The two are compared on {:,} rows without: there this model "
                "has macro F1 {:.3f} and accuracy {:.3f}.</p>"
            ).format(", ".join(c.without), c.rows, scores.metrics["shared.f1_macro"], scores.metrics["shared.accuracy"])
    if scores.fallen:
        out += Markup('<p class="bad">Below the champion: {}.</p>').format("; ".join(t.fall for t in scores.fallen))
    return out


def _gains(c: Comparison) -> tuple[Markup, Markup]:
    return _gain(c.f1_macro, c.f1_macro_low, c.f1_macro_high), _gain(c.accuracy, c.accuracy_low, c.accuracy_high)


def _gain(gain: float, low: float, high: float) -> Markup:
    mark = "good" if low > 0 else "bad" if high < 0 else ""
    return Markup('<span class="{}">{:+.3f} ({:+.3f} to {:+.3f})</span>').format(mark, gain, low, high)


def _automatic(scores: Scores) -> Markup:
    """Renders precision against coverage, with the point that meets the target."""
    sure, points = scores.automatic, scores.operating
    of = "given tags" if scores.multi_label else "rows"
    if sure is None:
        summary = f"At no threshold of the confidence are {TARGET:.0%} of the {of} right."
    else:
        summary = (
            f"The most confident {sure.coverage:.1%} of the {of}, at {sure.confidence:.3f} and above, are right in "
            f"{sure.precision:.1%}. The threshold was chosen on these rows, so expect slightly less on new ones."
        )

    def draw(axes: Axes) -> None:
        axes.plot([p.coverage for p in points], [p.precision for p in points], color=ACCENT)
        axes.axhline(TARGET, color=MUTED, linewidth=1, linestyle=":")
        if sure is not None:
            axes.plot([sure.coverage], [sure.precision], color=GOOD, marker="o")
        axes.set_xlim(0, 1)
        axes.set_ylim(min([0.5, *(p.precision for p in points)]), 1.01)
        axes.set_xlabel(f"share of the {of} that is accepted, the most confident first")
        axes.set_ylabel("share of them that is right")

    drawn = plot(draw, width=6, height=3.4) if points else Markup("")
    return _promise(scores, of) + Markup("<p>{}</p>").format(summary) + drawn + _least_automatic(scores)


def _promise(scores: Scores, of: str) -> Markup:
    """Renders the threshold that the model learned on dev: what it promises, and what it keeps on gold."""
    promise = scores.promise
    if promise is None:
        return Markup("<p>The model accepts nothing by itself: it had too few dev rows to learn a threshold.</p>")
    if promise.min_confidence is None:
        text = "The model accepts nothing by itself: on dev rows no threshold of the confidence had precision {:.0%}."
        return Markup("<p>{}</p>").format(text.format(promise.wanted))
    learned = (
        f"At precision {promise.wanted:.0%} the model keeps {promise.coverage:.1%} of the {of}: it accepts them from "
        f"the confidence {promise.min_confidence:.3f} on, learned on dev rows (there {promise.dev_coverage:.1%})."
    )
    if promise.precision is None:
        return Markup("<p>{}</p>").format(learned)
    kept = (
        f"On gold {promise.precision:.1%} of them are right (95 % interval {promise.low:.1%} to {promise.high:.1%}"
        + ("" if promise.kept else ": the promise is not kept")
        + ")."
    )
    mark = "" if promise.kept else "bad"
    return Markup('<p>{} <span class="{}">{}</span></p>').format(learned, mark, kept)


def _least_automatic(scores: Scores) -> Markup:
    """Lists the tags with the smallest accepted share, which a frequent tag may hide in the mean."""
    given = [(t.automatic, t.tag) for t in scores.per_tag if t.automatic is not None and t.automatic < 1]
    if not given:
        return Markup("")
    listed = ", ".join(f"{tag} {share:.1%}" for share, tag in sorted(given)[:LEAST_AUTOMATIC])
    return Markup("<p>Tags with the smallest accepted share, at the same precision for each tag: {}.</p>").format(
        listed
    )


def _slices(scores: Scores) -> Markup:
    parts = sorted(scores.slices, key=lambda part: (part.accuracy is None, part.accuracy, part.name))
    columns = ["slice", "condition", "gold rows", "accuracy", "from", "to", "macro F1", "champion's accuracy"]
    rows = [(p.name, p.condition, p.rows, p.accuracy, p.low, p.high, p.f1_macro, p.champion_accuracy) for p in parts]

    def mark(i: int, column: str, _: Any) -> str:
        return "bad" if column == "accuracy" and parts[i].high < scores.metrics["accuracy"] else ""

    note = (
        "<p>From and to: the 95 % interval of accuracy (Wilson). Red: the whole interval is below the accuracy of all "
    )
    note += "rows. A slice with fewer than {} gold rows cannot be the worst slice of a gate.</p>"
    return Markup(note).format(ENOUGH_ROWS) + table(columns, rows, mark=mark)


def _by_tag(scores: Scores) -> Markup:
    present = sorted((t for t in scores.per_tag if t.rows), key=lambda t: (t.f1, t.tag))
    shown = present[:MOST_BARS]

    def draw(axes: Axes) -> None:
        at = np.arange(len(shown))[::-1]
        axes.barh(at, [t.f1 for t in shown], color=[BAD if t.f1 < 0.5 else ACCENT for t in shown])
        axes.set_yticks(at, [f"{_short(t.tag)} ({t.rows})" for t in shown])
        axes.set_xlim(0, 1)
        axes.set_ylim(-0.7, len(shown) - 0.3)
        axes.axvline(scores.metrics["f1_macro"], color=INK, linewidth=1, linestyle=":")
        axes.set_xlabel("F1 (in brackets: gold rows; dotted: mean)")

    note = (
        Markup("<p>The {} worst of {}.</p>").format(len(shown), len(present)) if len(shown) < len(present) else Markup()
    )
    return note + plot(draw, height=0.8 + 0.19 * len(shown))


def _confused(scores: Scores) -> Markup:
    if not scores.confusions:
        return Markup("<p>Nothing.</p>")
    every = list(dict.fromkeys(tag for c in scores.confusions for tag in (c.truth, c.given)))
    tags, left_out = every[:MOST_CONFUSED], every[MOST_CONFUSED:]
    counts = np.zeros((len(tags), len(tags)))
    for c in scores.confusions:
        if c.truth in tags and c.given in tags:
            counts[tags.index(c.truth), tags.index(c.given)] = c.rows
    most = counts.max() or 1

    def draw(axes: Axes) -> None:
        for i, j in zip(*np.nonzero(counts), strict=True):
            strong = counts[i, j] / most
            axes.add_patch(_square(j, i, strong))
            axes.text(j, i, f"{int(counts[i, j])}", ha="center", va="center", color=INK, fontsize=8)
        for i in range(len(tags)):
            axes.add_patch(_square(i, i, 1.0, color=BAND))
        axes.set_xlim(-0.5, len(tags) - 0.5)
        axes.set_ylim(len(tags) - 0.5, -0.5)
        axes.set_xticks(range(len(tags)), [_short(t) for t in tags], rotation=45, ha="right")
        axes.set_yticks(range(len(tags)), [_short(t) for t in tags])
        axes.set_xlabel("given")
        axes.set_ylabel("true")

    rows = {t.tag: t.rows for t in scores.per_tag}
    worst = [(c.truth, c.given, c.rows, c.rows / max(1, rows[c.truth])) for c in scores.confusions[:20]]
    size = 2.2 + 0.36 * len(tags)
    note = Markup("<p>The {} tags that are confused most. Confused, but not in this picture: {}.</p>").format(
        len(tags), ", ".join(left_out)
    )
    drawn = plot(draw, width=size + 2.2, height=size)
    return (note if left_out else Markup("")) + drawn + table(["true", "given", "rows", "of the tag's rows"], worst)


def _square(x: int, y: int, strong: float, *, color: str = BAD) -> Any:
    from matplotlib.patches import Rectangle

    alpha = 0.15 + 0.75 * strong
    return Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=color, alpha=alpha, edgecolor="none")


def _mistakes(mistakes: Sequence[Mistake]) -> Markup:
    """Renders the mistakes to look at first: a wrong gold label, a misleading rule, or a misleading word."""
    if not mistakes:
        return Markup("<p>None.</p>")
    words = any(m.words for m in mistakes)
    note = "What each word adds to the given tag's log-odds over the mean tag's, and the rules that voted."
    note = note if words else "The rows' features, and the rules that voted."
    return Markup("<p>{}</p>{}").format(note, Markup("").join(_mistake(m) for m in mistakes))


def _mistake(m: Mistake) -> Markup:
    """Renders a mistake as a block of three lines: texts and names of tags are too long for table columns."""
    pairs = [
        ("words for it", _words([(word, value) for word, value in m.words if value > 0])),
        ("against it", _words([(word, value) for word, value in m.words if value < 0])),
        ("rules", _rules(m)),
    ]
    why = Markup("; ").join(Markup("{}: {}").format(name, listed) for name, listed in pairs if listed)
    return Markup(
        '<p><b>{}</b> <span class="lead">row {}</span><br>given <span class="bad">{}</span> at {:.3f}, true '
        '<span class="good">{}</span><br><span class="lead">{}</span></p>'
    ).format(m.text, m.key, m.given, m.confidence, m.truth or "no tag", why)


def _rules(m: Mistake) -> str:
    """Lists the rules that voted, those for the given and the true tag first."""
    wanted = {m.given, *m.truth.split("|")}
    ordered = sorted(m.rules, key=lambda rule: rule[1] not in wanted)
    more = [f"{len(ordered) - SHOWN_RULES} more"] if len(ordered) > SHOWN_RULES else []
    return ", ".join([f"{rule}: {vote}" for rule, vote in ordered[:SHOWN_RULES]] + more)


def _words(words: list[tuple[str, float]]) -> str:
    return ", ".join(f"{word} {value:+.1f}" for word, value in words[:SHOWN_WORDS])


def _reliability(scores: Scores) -> Markup:
    bins, before = scores.reliability, scores.reliability_before
    rows = sum(b.rows for b in bins) or 1

    def draw(axes: Axes) -> None:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1, linestyle=":")
        axes.bar([b.confidence for b in bins], [b.rows / rows for b in bins], 0.05, color=BAND, label="share of rows")
        if before:
            label = "share right, before calibration"
            axes.plot([b.confidence for b in before], [b.right for b in before], color=MUTED, marker=".", label=label)
        axes.plot([b.confidence for b in bins], [b.right for b in bins], color=GOOD, marker="o", label="share right")
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1)
        axes.set_xlabel("confidence")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2)

    drawn = plot(draw, width=6, height=4.2)
    after = table(["confidence", "right", "rows"], [(b.confidence, b.right, b.rows) for b in bins])
    if not before:
        note = "The model is not calibrated: it had fewer than {} held-out dev rows, or was trained before calibration."
        return Markup("<p>{}</p>").format(note.format(LEAST_ROWS)) + drawn + after
    note = "Calibrated on held-out dev rows. The calibration error on gold is {:.3f}; without calibration it is {:.3f}."
    shown = table(["confidence before", "right", "rows"], [(b.confidence, b.right, b.rows) for b in before])
    metrics = scores.metrics
    said = Markup("<p>{}</p>").format(note.format(metrics["ece"], metrics["ece_before"]))
    return said + drawn + after + collapsed("Before calibration", shown)


def _tags_table(scores: Scores) -> Markup:
    columns = ["tag", "gold rows", "precision", "recall", "F1", "from", "to", f"accepted at {TARGET:.0%}"]
    present = sorted(scores.per_tag, key=lambda t: (t.f1, t.tag))
    rows: list[tuple[Any, ...]] = [
        (t.tag, t.rows, t.precision, t.recall, t.f1, t.f1_low, t.f1_high, t.automatic) for t in present
    ]
    note = Markup(
        "<p>From and to: the 95 % interval of F1 (bootstrap). Accepted: of the rows given the tag the surest share of "
        "which {} are right.</p>"
    ).format(f"{TARGET:.0%}")
    if any(t.champion_f1 is not None for t in present):
        columns += ["champion's F1", "fall from", "fall to"]
        rows = [(*row, t.champion_f1, t.fall_low, t.fall_high) for row, t in zip(rows, present, strict=True)]
        note += Markup(
            "<p>Fall: by how much F1 is below the champion's, for tags with {} gold rows or more. The intervals hold "
            "for all of them together in 95 % of samples; where one is above 0, the tag is certainly worse.</p>"
        ).format(ENOUGH_ROWS)

    def mark(i: int, column: str, value: Any) -> str:
        bad = (column == "F1" and rows[i][1] and value < 0.5) or (column == "fall from" and present[i].has_fallen)
        return "bad" if bad else ""

    return note + table(columns, rows, mark=mark)


def _short(tag: str) -> str:
    return tag if len(tag) <= 34 else tag[:33] + "…"
