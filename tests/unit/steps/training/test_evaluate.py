"""Evaluation: metrics agree with scikit-learn's, and gold rows used for training are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from sklearn import metrics as peer

from kommuna.errors import DataError, DuplicateKeys, Leakage, MissingColumn, SpecError
from kommuna.spec.gate import EVALUATION_METRICS
from kommuna.spec.step import StepContext
from kommuna.steps.registry.promote import verdict_of
from kommuna.steps.training.evaluate import Evaluated, evaluate
from kommuna.steps.training.evaluation.scores import automatic, operating_points
from kommuna.steps.training.train import Trained, train_classifier


@pytest.fixture(scope="module")
def task(make_task) -> Any:
    """A task with wrong gold labels in every eighth row, so that the model makes mistakes."""
    made = make_task(200, 60)
    wrong = pl.col("tag").replace({"card": "credit", "credit": "вклад", "вклад": "card"})
    made.gold = made.gold.with_columns(tag=pl.when(pl.col("id") % 8 == 0).then(wrong).otherwise("tag"))
    return made


@pytest.fixture(scope="module")
def trained(task) -> Trained:
    return train_classifier(task.messages.lazy(), task.labels.lazy(), task.dev.lazy())


def judged(trained: Trained, task, gold: pl.DataFrame | None = None, **options) -> Evaluated:
    gold = task.gold if gold is None else gold
    return evaluate(trained.model, gold.lazy(), task.dev.lazy(), task.messages.lazy(), **options)


def test_figures_agree_with_scikit_learn(task, trained: Trained) -> None:
    found = judged(trained, task, dev_only=trained.dev_only, gold_labels=task.gold_labels.lazy())
    truth = task.gold["tag"].to_list()
    given = trained.model.predict_table(task.gold)["tag"].cast(pl.String).to_list()
    m = found.metrics
    assert m["accuracy"] == pytest.approx(peer.accuracy_score(truth, given))
    assert m["f1_macro"] == pytest.approx(peer.f1_score(truth, given, average="macro"))
    assert m["precision_macro"] == pytest.approx(peer.precision_score(truth, given, average="macro"))
    alone = trained.dev_only.predict_table(task.gold)["tag"].cast(pl.String).to_list()
    assert m["baseline.dev_only.f1_macro"] == pytest.approx(peer.f1_score(truth, alone, average="macro"))
    labels = task.gold_labels["tag"].cast(pl.String).fill_null("unknown").to_list()
    assert m["baseline.label_model.accuracy"] == pytest.approx(peer.accuracy_score(truth, labels))
    most = task.dev["tag"].mode()[0]
    assert m["baseline.majority_class.accuracy"] == pytest.approx(truth.count(most) / len(truth))
    assert m["coverage"] == pytest.approx(1 - task.gold_labels["tag"].null_count() / len(truth))
    assert m["accuracy_low"] < m["accuracy"] < m["accuracy_high"] < 1
    by_tag = dict(zip(["card", "credit", "вклад"], peer.f1_score(truth, given, average=None), strict=True))
    assert {t.tag: t.f1 for t in found.scores.per_tag} == pytest.approx(by_tag)


def test_figures_of_multi_label_agree_with_scikit_learn(several_task) -> None:
    task = several_task
    trained = train_classifier(task.messages.lazy(), task.labels.lazy(), task.dev.lazy())
    found = judged(
        trained, task, dev_only=trained.dev_only, gold_labels=task.gold_labels.lazy(), champion=trained.dev_only,
        slices={"all": "id >= 0"},
    )  # fmt: skip
    assert set(found.metrics) == set(EVALUATION_METRICS)  # what a gate over an evaluation may name

    def matrix(lists: pl.Series) -> np.ndarray:
        return np.array([[tag in row for tag in trained.model.tags] for row in lists.to_list()])

    truth, given = matrix(task.gold["tags"]), matrix(trained.model.predict_table(task.gold)["tags"])
    assert found.metrics["accuracy"] == pytest.approx(peer.accuracy_score(truth, given))
    assert found.metrics["f1_micro"] == pytest.approx(peer.f1_score(truth, given, average="micro"))
    assert found.metrics["f1_macro"] == pytest.approx(peer.f1_score(truth, given, average="macro"))
    assert found.metrics["without_tag"] == pytest.approx((~given.any(axis=1)).mean())
    assert found.metrics["gold_without_tag"] == pytest.approx((~truth.any(axis=1)).mean())
    assert f"{found.metrics['without_tag']:.1%} ({found.metrics['gold_without_tag']:.1%} in gold)" in found.report.html
    assert "Confusion between tags" not in found.report.html
    labels = matrix(task.gold_labels["tags"])
    assert found.metrics["baseline.label_model.f1_micro"] == pytest.approx(
        peer.f1_score(truth, labels, average="micro")
    )


def test_a_champion_is_evaluated_on_the_same_rows_with_its_own_tags(task, trained: Trained) -> None:
    tags = ("вклад", "old tag", "card", "credit")
    champion = replace(trained.dev_only, tags=tags, scorer=_Reordered(trained.dev_only.scorer))
    found = judged(trained, task, champion=champion, dev_only=trained.dev_only)
    assert found.metrics["champion.f1_macro"] == found.metrics["baseline.dev_only.f1_macro"]
    assert not any(name.startswith("champion.") for name in judged(trained, task).metrics)


class _Reordered:
    """Returns the same probabilities for a model with an additional tag in between."""

    def __init__(self, scorer) -> None:
        self.scorer = scorer

    def probabilities(self, frame: pl.DataFrame) -> np.ndarray:
        p = self.scorer.probabilities(frame)
        return np.stack([p[:, 2], np.zeros(len(p)), p[:, 0], p[:, 1]], axis=1)


def test_a_model_compared_with_itself_has_no_gain_and_no_mark(task, trained: Trained) -> None:
    found = judged(trained, task, champion=trained.model)
    (champion,) = [c for c in found.scores.comparisons if c.name == "champion"]
    assert (champion.accuracy, champion.accuracy_low, champion.accuracy_high) == (0, 0, 0)
    assert (champion.f1_macro, champion.f1_macro_low, champion.f1_macro_high) == (0, 0, 0)
    assert '<span class="">+0.000 (+0.000 to +0.000)</span>' in found.report.html


def test_a_gain_is_marked_if_its_paired_interval_excludes_zero(task, trained: Trained) -> None:
    found = judged(trained, task, dev_only=trained.dev_only)
    majority = next(c for c in found.scores.comparisons if c.name == "baseline.majority_class")
    assert majority.f1_macro_low > 0
    assert f'<span class="good">{majority.f1_macro:+.3f} ({majority.f1_macro_low:+.3f} to' in found.report.html
    # McNemar's standard error of a paired difference: rows that only one of the two has right.
    truth = task.gold["tag"].to_numpy()
    ours, theirs = (
        m.predict_table(task.gold)["tag"].cast(pl.String).to_numpy() == truth for m in (trained.model, trained.dev_only)
    )
    alone = next(c for c in found.scores.comparisons if c.name == "baseline.dev_only")
    differences = ours.astype(float) - theirs
    error = differences.std() / np.sqrt(len(truth))
    assert alone.accuracy == pytest.approx(differences.mean())
    assert alone.accuracy_high - alone.accuracy_low == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_the_accepted_share_is_the_largest_at_the_target_precision() -> None:
    confidence = np.array([0.99, 0.98, 0.97, 0.97, 0.9, 0.8])
    right = np.array([True] * 4 + [False, True])
    points = operating_points(confidence, right)
    assert [(p.confidence, round(p.coverage, 3), round(p.precision, 3)) for p in points] == [
        (0.99, 0.167, 1.0), (0.98, 0.333, 1.0), (0.97, 0.667, 1.0), (0.9, 0.833, 0.8), (0.8, 1.0, 0.833),
    ]  # fmt: skip
    assert automatic(points) == points[2]
    assert automatic(operating_points(confidence, ~right)) is None


def test_the_report_names_the_tags_with_the_smallest_accepted_share(task, trained: Trained) -> None:
    found = judged(trained, task)
    by_tag = {t.tag: t.automatic for t in found.scores.per_tag}
    for tag, share in by_tag.items():
        assert share is not None
        given = trained.model.predict_table(task.gold)["tag"].cast(pl.String).to_numpy() == tag
        p = trained.model.probabilities(task.gold)[given, trained.model.tags.index(tag)]
        best = automatic(operating_points(p, (task.gold["tag"].to_numpy() == tag)[given]))
        assert share == (best.coverage if best else 0)
    worst = min((share, tag) for tag, share in by_tag.items())
    assert f"for each tag: {worst[1]} {worst[0]:.1%}" in found.report.html


@pytest.mark.slow
def test_mistakes_in_a_table_show_its_features() -> None:
    random = np.random.default_rng(0)
    table = pl.DataFrame({"id": np.arange(400), "amount": random.lognormal(3, 1, 400).round(2)})
    table = table.with_columns(tag=pl.when(pl.col("amount") > 40).then(pl.lit("large")).otherwise(pl.lit("small")))
    p = np.where(table["amount"].to_numpy()[:, None] > 40, [0.1, 0.9], [0.9, 0.1]).astype(np.float32)
    labels = table.select("id").with_columns(
        tag=table["tag"].cast(pl.Enum(["small", "large"])),
        confidence=pl.lit(0.9, pl.Float32),
        probabilities=pl.Series(p, dtype=pl.Array(pl.Float32, 2)),
    )
    messages, dev, gold = table.head(200), table.slice(200, 100), table.tail(100)
    trained = train_classifier(
        messages.lazy(), labels.head(200).lazy(), dev.lazy(), classifier="boosted_trees", features=["amount"]
    )
    odd = gold.with_columns(tag=pl.when(pl.int_range(pl.len()) == 7).then(pl.lit("small")).otherwise("tag"))
    odd = odd.with_columns(amount=pl.when(pl.int_range(pl.len()) == 7).then(999.5).otherwise("amount"))
    found = evaluate(trained.model, odd.lazy(), dev.lazy(), messages.lazy(), gold_labels=None)
    assert '<b>amount 999.5</b> <span class="lead">row 307</span>' in found.report.html


def test_the_report_opens_offline_and_names_the_baselines(task, trained: Trained) -> None:
    found = judged(trained, task, dev_only=trained.dev_only, gold_labels=task.gold_labels.lazy(), title="Topics <b>")
    html = found.report.html
    assert "Topics &lt;b&gt;" in html
    assert html.count("<svg") >= 3
    assert "label model alone" in html
    assert "вклад" in html
    assert "<script" not in html
    assert 'src="http' not in html


def test_gold_rows_in_the_messages_are_refused_by_key(task, trained: Trained) -> None:
    leaked = pl.concat([task.messages, task.gold.head(7).drop("tag")])
    with pytest.raises(Leakage, match=r"7 of 200 gold rows are in messages too, by 'id': 260, 261, 262, 263, 264 …"):
        evaluate(trained.model, task.gold.lazy(), task.dev.lazy(), leaked.lazy())


def test_gold_rows_in_dev_are_refused_by_key(task, trained: Trained) -> None:
    leaked = pl.concat([task.dev, task.gold.tail(1)])
    with pytest.raises(Leakage, match="1 of 200 gold rows are in dev too, by 'id': 459") as error:
        evaluate(trained.model, task.gold.lazy(), leaked.lazy(), task.messages.lazy())
    assert "remove the gold rows from dev" in error.value.fix


def test_gold_texts_in_dev_are_refused_however_they_are_written(task, trained: Trained) -> None:
    copied = task.gold.head(20).with_columns(
        id=pl.col("id") + 5000, text=pl.lit("  ") + pl.col("text").str.to_uppercase().str.replace_all("Ё", "Е") + "!!"
    )
    with pytest.raises(Leakage, match=r"2\d of 200 gold texts \(1\d\.\d%\) are in dev too, more than"):
        evaluate(trained.model, task.gold.lazy(), pl.concat([task.dev, copied]).lazy(), task.messages.lazy())
    allowed = evaluate(
        trained.model,
        task.gold.lazy(),
        pl.concat([task.dev, copied]).lazy(),
        task.messages.lazy(),
        max_text_overlap=0.2,
    )
    assert allowed.metrics["text_overlap"] >= 0.1


def test_a_gold_row_without_a_label_is_not_leakage(task, trained: Trained) -> None:
    left_out = pl.concat([task.messages.head(3), task.dev.drop("tag").head(2)]).with_columns(
        tag=pl.lit(None, pl.String)
    )
    found = judged(trained, task, pl.concat([task.gold, left_out.select(task.gold.columns)]))
    assert found.metrics == judged(trained, task).metrics


@pytest.mark.parametrize("share", [float("nan"), -0.1, 7])
def test_an_overlap_limit_that_disables_the_check_is_refused(task, trained: Trained, share: float) -> None:
    with pytest.raises(SpecError, match="'max_text_overlap': expected a number of at"):
        evaluate(trained.model, task.gold.lazy(), task.dev.lazy(), task.messages.lazy(), max_text_overlap=share)


def test_empty_gold_is_refused(task, trained: Trained) -> None:
    with pytest.raises(DataError, match="gold has no labeled rows"):
        judged(trained, task, task.gold.head(0))


def test_duplicate_gold_keys_are_refused(task, trained: Trained) -> None:
    with pytest.raises(DuplicateKeys, match="column 'id': 260 names 2 rows"):
        judged(trained, task, pl.concat([task.gold, task.gold.head(1)]))


def test_gold_without_a_label_column_is_refused(task, trained: Trained) -> None:
    with pytest.raises(MissingColumn, match=r"gold has no column 'tag' \(did you mean 'tga'\?\)"):
        judged(trained, task, task.gold.rename({"tag": "tga"}))


def test_a_gold_label_that_the_model_lacks_is_reported_with_its_row(task, trained: Trained) -> None:
    bad = task.gold.with_columns(tag=pl.when(pl.col("id") == 300).then(pl.lit("cards")).otherwise("tag"))
    with pytest.raises(
        DataError, match=r"gold: row 300 has the label 'cards', which is not one of the tags.*did you mean 'card'"
    ):
        judged(trained, task, bad)


def test_a_tag_that_training_never_saw_counts_with_f1_zero(task, trained: Trained) -> None:
    wider = replace(
        trained.model,
        tags=(*trained.model.tags, "mortgage"),
        scorer=_Wider(trained.model.scorer),
        never_seen=("mortgage",),
    )
    gold = task.gold.with_columns(tag=pl.when(pl.col("id") < 270).then(pl.lit("mortgage")).otherwise("tag"))
    found = evaluate(wider, gold.lazy(), task.dev.lazy(), task.messages.lazy())
    unseen = next(t for t in found.scores.per_tag if t.tag == "mortgage")
    assert (unseen.f1, unseen.rows, unseen.never_seen) == (0.0, 10, True)
    assert found.metrics["tags_never_seen"] == 1
    seen = [t.f1 for t in found.scores.per_tag if t.tag != "mortgage"]
    assert found.metrics["f1_macro"] == pytest.approx(sum(seen) / 4)
    assert "The model cannot give: mortgage" in found.report.html


class _Wider:
    """A scorer with an additional tag that it never predicts."""

    def __init__(self, scorer) -> None:
        self.scorer = scorer

    def probabilities(self, frame: pl.DataFrame) -> np.ndarray:
        return np.pad(self.scorer.probabilities(frame), ((0, 0), (0, 1)))

    def words(self, text: str, column: int) -> dict[str, float]:
        return self.scorer.words(text, column)


def test_labels_of_other_rows_than_gold_are_refused(task, trained: Trained) -> None:
    with pytest.raises(DataError, match="gold_labels has no row '260'; 1 gold rows are missing"):
        judged(trained, task, gold_labels=task.gold_labels.slice(1).lazy())


def test_a_leak_is_found_with_keys_of_two_types(task, trained: Trained) -> None:
    messages = pl.concat([task.messages, task.gold.head(1).drop("tag")]).with_columns(pl.col("id").cast(pl.String))
    with pytest.raises(Leakage):
        evaluate(trained.model, task.gold.lazy(), task.dev.lazy(), messages.lazy())


@pytest.mark.parametrize(
    "kind", [pl.Float64, pl.Float32, pl.Decimal(12, 2), pl.Int16, pl.UInt64, pl.String, "as_float_text", "padded"]
)
@pytest.mark.parametrize("where", ["messages", "dev"])
def test_a_leak_is_found_with_keys_of_any_types(task, trained: Trained, kind: Any, where: str) -> None:
    key = {
        "as_float_text": pl.col("id").cast(pl.Float64).cast(pl.String),
        "padded": pl.col("id").cast(pl.String).str.zfill(9),
    }.get(kind, pl.col("id").cast(kind) if not isinstance(kind, str) else None)
    tables = {"messages": task.messages, "dev": task.dev}
    evaluate(trained.model, task.gold.lazy(), **{n: t.with_columns(key).lazy() for n, t in tables.items()})
    leak = task.gold.head(5).select(tables[where].columns)
    tables[where] = pl.concat([tables[where], leak])
    with pytest.raises(Leakage, match=f"5 of 200 gold rows are in {where} too"):
        evaluate(trained.model, task.gold.lazy(), **{n: t.with_columns(key).lazy() for n, t in tables.items()})


def test_if_all_keys_are_texts_different_spellings_of_a_number_are_different_keys(task, trained: Trained) -> None:
    gold = task.gold.with_columns(pl.format("0{}", "id").alias("id"))
    messages, dev = (t.with_columns(pl.col("id").cast(pl.String)) for t in (task.gold.drop("tag"), task.dev))
    assert evaluate(trained.model, gold.lazy(), dev.lazy(), messages.lazy()).metrics["rows"] == 200


def test_the_report_shows_the_most_confident_mistakes_with_words_and_rules(task, trained: Trained) -> None:
    votes = task.gold.select("id", pl.lit("card").alias("always_card"), pl.lit(None, pl.String).alias("never"))
    html = judged(trained, task, gold_votes=votes.lazy()).report.html
    given = trained.model.predict_table(task.gold)
    wrong = task.gold.with_columns(given["confidence"], given=given["tag"].cast(pl.String))
    surest = wrong.filter(pl.col("tag") != pl.col("given")).sort("confidence", descending=True)
    section = html[html.index("Confident mistakes") : html.index("Calibration: is")]
    assert surest["text"][0] in section
    assert section.index(surest["text"][0]) < section.index(surest["text"][10])
    assert "always_card: card" in section
    assert "never:" not in section
    word = trained.model.explain(surest["text"][0]).words[0][0]
    assert f"{word} +" in section


def test_votes_with_a_duplicate_key_are_refused(task, trained: Trained) -> None:
    votes = pl.concat([task.gold.select("id", pl.lit("card").alias("r"))] * 2)
    with pytest.raises(DuplicateKeys, match="gold_votes"):
        judged(trained, task, gold_votes=votes.lazy())


def test_the_scores_name_what_they_are_about(task, trained: Trained) -> None:
    digests = {
        name: letter * 64
        for name, letter in zip(("model", "gold", "dev", "messages", "champion"), "abcde", strict=True)
    }
    context = StepContext(team="support", inputs=digests)
    found = judged(trained, task, champion=trained.dev_only, context=context).scores.compared
    assert found is not None
    assert found.model_dump() == digests
    context = StepContext(team="support", inputs={**digests, "champion": "none"})
    alone = judged(trained, task, context=context).scores.compared
    assert alone is not None
    assert alone.champion == ""
    assert judged(trained, task).scores.compared is None  # in a notebook nothing knows it


def test_a_tag_that_certainly_falls_below_the_champion_is_named_and_refused(task, trained: Trained) -> None:
    """The champion is the model; the new one gives `card` to nobody, and its rows to the others."""
    worse = replace(trained.model, scorer=_WithoutCard(trained.model.scorer))
    found = evaluate(worse, task.gold.lazy(), task.dev.lazy(), task.messages.lazy(), champion=trained.model)
    assert [tag.tag for tag in found.scores.fallen] == ["card", "credit", "вклад"]
    assert found.metrics["tags_fallen"] == 3
    assert found.metrics["worst_tag.f1"] == 0
    assert "Below the champion: tag &#39;card&#39; falls from" in found.report.html
    assert "champion&#39;s F1" in found.report.html
    verdict = verdict_of("f1_macro > 0.1", found.scores)
    assert not verdict.holds
    assert "tag 'card' falls from" in verdict.reason
    assert verdict_of("f1_macro > 0.1 and tags_fallen <= 3", found.scores).holds
    assert not verdict_of("max_drop(f1.*) <= 0.3", found.scores).holds


class _WithoutCard:
    """A model that never gives the first tag."""

    def __init__(self, scorer) -> None:
        self.scorer = scorer

    def probabilities(self, frame: pl.DataFrame) -> np.ndarray:
        p = self.scorer.probabilities(frame).copy()
        p[:, 0] = 0
        return p

    def words(self, text: str, column: int) -> dict[str, float]:
        return self.scorer.words(text, column)


def test_the_report_says_which_tag_the_champion_does_not_know(task, trained: Trained) -> None:
    champion = replace(trained.model, tags=("card", "other", "вклад"))
    found = judged(trained, task, champion=champion)
    assert found.scores.comparisons[-1].without == ("credit",)
    assert "The champion does not know credit" in found.report.html
    assert found.metrics["shared.f1_macro"] == pytest.approx(found.metrics["champion.f1_macro"], abs=0.2)
