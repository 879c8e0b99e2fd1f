"""Training: better than its sources, the same twice, and clear about what is missing."""

from __future__ import annotations

import hashlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import polars as pl
import pytest
from scipy.special import expit
from sklearn.metrics import average_precision_score
from structlog.testing import capture_logs
from tests.recorded import tables as recorded

from kommuna.errors import DataError, DuplicateKeys, MissingColumn, SpecError
from kommuna.spec import choices
from kommuna.steps.training.tagger import Tagger
from kommuna.steps.training.train import Trained, train_classifier

TAGS = ("card", "credit", "вклад")


def train(task, **options) -> Trained:
    return train_classifier(task.messages.lazy(), task.labels.lazy(), task.dev.lazy(), **options)


def accuracy(model: Tagger, gold: pl.DataFrame) -> float:
    return float((model.predict_table(gold)["tag"].cast(pl.String) == gold["tag"]).mean())


@pytest.fixture(scope="module")
def trained(task) -> Trained:
    return train(task)


def test_the_tagger_beats_the_label_model_and_the_dev_rows_alone(task, trained: Trained) -> None:
    label_model = (task.gold_labels["tag"].cast(pl.String) == task.gold["tag"]).fill_null(False).mean()
    ours = accuracy(trained.model, task.gold)
    assert ours > label_model
    assert ours > accuracy(trained.dev_only, task.gold)
    assert ours > 0.9


def test_meaningless_labels_do_not_make_it_worse_than_the_dev_rows_alone(make_task) -> None:
    task = make_task(600, 90, accuracy=1 / 3)
    found = train(task)
    assert accuracy(found.model, task.gold) >= accuracy(found.dev_only, task.gold) - 0.03


def chance(n: int, d: int, k: int = 3) -> tuple[pl.LazyFrame, ...]:
    """Dev rows of chance tags and messages with the same texts, whose labels know those tags; and labels that do not."""
    random = np.random.default_rng(0)
    text = pl.Series([" ".join(f"w{w}" for w in random.integers(0, 40, 6)) for _ in range(d)])
    dev = pl.DataFrame({"id": np.arange(d) + n, "text": text, "tag": [TAGS[t] for t in random.integers(0, k, d)]})
    messages = pl.DataFrame({"id": np.arange(n), "text": text.gather(np.arange(n) % d)})
    truth = dev["tag"].cast(pl.Enum(TAGS)).to_physical().to_numpy()
    fold = np.arange(d) % 5

    def table(knows: np.ndarray) -> pl.Series:
        """Returns labels of the messages: the tags of known dev rows, null for all others."""
        p = np.full((n, k), 1 / k, np.float32)
        sure = np.eye(k, dtype=np.float32)[truth[np.arange(n) % d]] * 0.85 + 0.05
        return pl.Series(
            "probabilities", np.where(knows[np.arange(n) % d, None], sure, p), dtype=pl.Array(pl.Float32, k)
        )

    every = table(np.ones(d, dtype=bool))
    tag = pl.Series(TAGS, dtype=pl.Enum(TAGS)).gather(truth[np.arange(n) % d])
    labels = pl.DataFrame(
        {
            "id": messages["id"],
            "tag": tag,
            "confidence": pl.repeat(0.9, n, dtype=pl.Float32, eager=True),
            "probabilities": every,
        }
    )
    flat = pl.Series(np.full((d, k), 1 / k, np.float32), dtype=pl.Array(pl.Float32, k))
    own = pl.DataFrame({"dev": True, "id": dev["id"], "fold": pl.Series(fold, dtype=pl.Int8), "probabilities": flat})
    rest = [
        pl.DataFrame(
            {
                "dev": False,
                "id": messages["id"],
                "fold": pl.Series(np.full(n, f), dtype=pl.Int8),
                "probabilities": table(fold != f),
            }
        )
        for f in range(5)
    ]
    return messages.lazy(), labels.lazy(), dev.lazy(), pl.concat([own, *rest]).lazy()


@pytest.mark.parametrize("classifier", ["tfidf_logreg", "tfidf_cnb"])
def test_labels_learned_from_dev_rows_bias_the_choice_only_without_cross_fitted_labels(classifier) -> None:
    """Tags are random, so at best one dev row in three is predicted correctly."""
    messages, labels, dev, apart = chance(600, 150)
    flattered = train_classifier(messages, labels, dev, classifier=classifier).metrics["held_out_accuracy"]
    honest = train_classifier(messages, labels, dev, apart, classifier=classifier).metrics["held_out_accuracy"]
    assert flattered > 0.8
    assert honest < 0.45


def test_dev_rows_that_the_label_model_never_saw_are_also_held_out() -> None:
    messages, labels, dev, apart = chance(600, 150)
    some = apart.filter(~pl.col("dev") | (pl.col("id") < 700))
    found = train_classifier(messages, labels, dev, some, max_rows=100)
    assert found.metrics["held_out_accuracy"] < 0.55
    assert found.metrics["weak_rows"] == 100


def test_max_rows_keeps_cross_fitted_rows_first() -> None:
    messages, labels, dev, apart = chance(600, 150)
    few = apart.filter(pl.col("dev") | (pl.col("id") < 50))
    found = train_classifier(messages, labels, dev, few, max_rows=40)  # else few of the 40 would be among the 50
    assert found.metrics["held_out_accuracy"] < 0.45


def test_a_cross_fitted_table_of_other_messages_is_refused() -> None:
    messages, labels, dev, apart = chance(600, 150)
    with pytest.raises(DataError, match="cross_fitted has none of the labeled messages"):
        train_classifier(messages, labels, dev, apart.filter("dev"))
    with pytest.raises(MissingColumn, match="cross_fitted has no column 'fold'"):
        train_classifier(messages, labels, dev, apart.drop("fold"))
    with pytest.raises(DataError, match="'id' is String in cross_fitted"):
        train_classifier(messages, labels, dev, apart.with_columns(pl.col("id").cast(pl.String)))


def test_predictions_carry_tags_confidence_and_probabilities(task, trained: Trained) -> None:
    found = trained.model.predict_table(task.gold)
    p = found["probabilities"].to_numpy()
    assert found["tag"].dtype == pl.Enum(["card", "credit", "вклад"])
    assert np.allclose(p.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(found["confidence"].to_numpy(), p.max(axis=1))
    assert found["tag"].to_physical().to_list() == p.argmax(axis=1).tolist()


def test_case_and_the_letter_yo_make_no_difference(trained: Trained) -> None:
    same = trained.model.predict_table(pl.DataFrame({"text": ["мой счёт", "МОЙ СЧЕТ", "Мой Счет"]}))
    assert same["probabilities"].n_unique() == 1
    assert same["tag"][0] == "вклад"


def test_a_row_without_text_has_no_tag_and_a_huge_one_has(trained: Trained) -> None:
    found = trained.model.predict_table(pl.DataFrame({"text": ["", None, " \n\u00a0", "card " * 1_000_000]}))
    assert found["tag"].to_list() == [None, None, None, "card"]
    assert found["confidence"].to_list()[:3] == [None] * 3
    assert found["decision"].to_list() == ["no text"] * 3 + ["review"]
    with pytest.raises(SpecError, match="no text to explain"):
        trained.model.explain(" ")


def test_no_rows_give_no_predictions(trained: Trained) -> None:
    found = trained.model.predict_table(pl.DataFrame({"text": []}, schema={"text": pl.String}))
    assert found.height == 0
    assert found.columns == ["tag", "confidence", "decision", "probabilities"]


@pytest.mark.slow
@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("classifier", [*get_args(choices.Classifier)])
def test_a_saved_model_predicts_the_same(classifier: str, multi_label: bool, tmp_path: Path) -> None:
    table, dev = recorded.messages(60), recorded.messages(30, first=500)
    features = ("amount", "channel") if classifier == "boosted_trees" else ()
    model = train_classifier(
        table.drop("tag").lazy(),
        recorded.labels(table, multi_label=multi_label).lazy(),
        (recorded.several(dev) if multi_label else dev).lazy(),
        classifier=classifier,  # type: ignore[arg-type]
        features=features,
    ).model
    model.save(tmp_path / "model")
    new = recorded.messages(20, first=900)
    assert Tagger.load(tmp_path / "model").predict_table(new).equals(model.predict_table(new))


def test_a_tagger_with_former_names_of_its_fields_is_read(trained: Trained, tmp_path: Path) -> None:
    trained.model.save(tmp_path / "model")
    content = pickle.loads((tmp_path / "model").read_bytes())
    content["state"]["several_tags"] = content["state"].pop("multi_label")
    (tmp_path / "model").write_bytes(pickle.dumps(content))
    assert Tagger.load(tmp_path / "model").multi_label is trained.model.multi_label


class _Planted:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self._command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self._command,)


@pytest.mark.parametrize("wrapped", [lambda planted: planted, lambda planted: {"format": 2, "state": {"x": planted}}])
def test_a_model_from_elsewhere_runs_no_code(wrapped: Callable[[Any], Any], tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(pickle.dumps(wrapped(_Planted(f"touch {tmp_path}/ran"))))
    with pytest.raises(DataError, match=r"model is not a tagger: .*posix\.system, which is not part of a tagger"):
        Tagger.load(tmp_path / "model")
    assert not (tmp_path / "ran").exists()


def test_a_file_that_is_not_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"no model")
    with pytest.raises(DataError, match="model is not a tagger"):
        Tagger.load(tmp_path / "model")


@pytest.mark.slow
@pytest.mark.parametrize("classifier", ["tfidf_logreg", "tfidf_cnb"])
def test_the_same_training_gives_the_same_bytes_in_another_process(task, tmp_path: Path, classifier: str) -> None:
    for name in ("messages", "labels", "dev"):
        getattr(task, name).write_parquet(tmp_path / f"{name}.parquet")
    program = f"""
import polars as pl, pathlib
from kommuna.steps.training.train import train_classifier
tables = [pl.scan_parquet(pathlib.Path({str(tmp_path)!r}, f"{{n}}.parquet")) for n in ("messages", "labels", "dev")]
train_classifier(*tables, classifier={classifier!r}).model.save(pathlib.Path({str(tmp_path)!r}, "other"))
"""
    subprocess.run([sys.executable, "-c", program], check=True, env=os.environ | {"PYTHONHASHSEED": "7"})
    train(task, classifier=classifier).model.save(tmp_path / "here")
    digests = {hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("here", "other")}
    assert len(digests) == 1


def test_naive_bayes_learns_from_weak_labels(task) -> None:
    found = train(task, classifier="tfidf_cnb")
    assert accuracy(found.model, task.gold) > 0.88
    assert found.metrics["weak_weight"] >= 0


def test_multi_label_per_row_are_learned_from_marginals(several_task) -> None:
    found = train(several_task)
    given = found.model.predict_table(several_task.gold)
    assert given["tags"].dtype == pl.List(pl.Enum(["card", "credit", "вклад"]))
    right = [set(a) == set(b) for a, b in zip(given["tags"], several_task.gold["tags"], strict=True)]
    alone = found.dev_only.predict_table(several_task.gold)["tags"]
    right_alone = [set(a) == set(b) for a, b in zip(alone, several_task.gold["tags"], strict=True)]
    assert sum(right) >= sum(right_alone)
    assert sum(right) / len(right) > 0.85


def test_multi_label_in_a_string_are_read_as_a_list(several_task) -> None:
    joined = several_task.dev.with_columns(tags=pl.col("tags").list.join("|"))
    one = train_classifier(several_task.messages.lazy(), several_task.labels.lazy(), joined.lazy(), label="tags")
    assert one.metrics == train(several_task).metrics


def _transactions(n: int, seed: int) -> tuple[pl.DataFrame, np.ndarray]:
    random = np.random.default_rng(seed)
    amount, country = random.lognormal(3, 1, n), random.choice(["RU", "KZ", "XX"], n)
    fraud = (amount > 40) & (country == "XX")
    table = pl.DataFrame({"id": np.arange(n) + seed * 10_000, "amount": amount, "country": country})
    return table.with_columns(amount=pl.when(pl.Series(random.random(n) > 0.02)).then("amount")), fraud


def _as_labels(table: pl.DataFrame, fraud: np.ndarray) -> pl.DataFrame:
    yes = np.where(fraud ^ (np.random.default_rng(9).random(len(fraud)) < 0.15), 0.8, 0.1)
    p = np.stack([1 - yes, yes], axis=1).astype(np.float32)
    tags = pl.Enum(["fine", "fraud"])
    tag = pl.Series(["fraud" if y > 0.5 else "fine" for y in yes], dtype=tags)
    kind = pl.Array(pl.Float32, 2)
    return pl.DataFrame({"id": table["id"], "tag": tag, "confidence": p.max(axis=1)}).with_columns(
        probabilities=pl.Series(p, dtype=kind)
    )


@pytest.mark.slow
def test_trees_learn_from_numbers_and_categories_and_accept_an_unknown_category() -> None:
    messages, weak_truth = _transactions(3000, 0)
    dev, dev_truth = _transactions(200, 1)
    gold, truth = _transactions(500, 2)
    dev = dev.with_columns(tag=pl.Series(np.where(dev_truth, "fraud", "fine")))
    found = train_classifier(
        messages.lazy(),
        _as_labels(messages, weak_truth).lazy(),
        dev.lazy(),
        classifier="boosted_trees",
        features=["amount", "country"],
    )
    given = found.model.predict_table(gold)["tag"].cast(pl.String).to_numpy() == "fraud"
    assert (given == truth).mean() > 0.95
    strange = found.model.predict_table(pl.DataFrame({"amount": [1e4, None], "country": ["never met", None]}))
    assert strange["tag"].null_count() == 0
    with pytest.raises(DataError, match="a feature does not match the model"):
        found.model.predict_table(pl.DataFrame({"amount": ["much"], "country": ["RU"]}))
    with pytest.raises(MissingColumn, match=r"no column 'country'.*did you mean 'county'"):
        found.model.predict_table(pl.DataFrame({"amount": [1.0], "county": ["RU"]}))


def _rare(n: int, seed: int) -> tuple[pl.DataFrame, np.ndarray, np.ndarray]:
    """Rows of which 6 % are fraud, whether they are, and the true log-odds."""
    random = np.random.default_rng(seed)
    x = random.normal(0, 1, (n, 3))
    odds = 2.5 * x[:, 0] + 2 * x[:, 1] * (x[:, 2] > 0) - 5
    table = pl.DataFrame({"id": np.arange(n) + seed * 10_000, "a": x[:, 0], "b": x[:, 1], "c": x[:, 2]})
    return table, random.random(n) < expit(odds), odds


@pytest.mark.slow
def test_labels_that_overstate_a_rare_tag_still_help() -> None:
    messages, _, odds = _rare(4000, 0)
    biased = odds + 2 + np.random.default_rng(9).normal(0, 0.5, len(odds))  # 19 % on the mean
    p = np.stack([expit(-biased), expit(biased)], axis=1).astype(np.float32)
    tag = pl.Series(np.where(biased > 0, "fraud", "fine"), dtype=pl.Enum(["fine", "fraud"]))
    labels = pl.DataFrame({"id": messages["id"], "tag": tag, "confidence": p.max(axis=1)}).with_columns(
        probabilities=pl.Series(p, dtype=pl.Array(pl.Float32, 2))
    )
    dev, dev_truth, _ = _rare(300, 1)
    dev = dev.with_columns(tag=pl.Series(np.where(dev_truth, "fraud", "fine")))
    found = train_classifier(
        messages.lazy(), labels.lazy(), dev.lazy(), classifier="boosted_trees", features=["a", "b", "c"]
    )
    assert found.metrics["weak_weight"] > 0
    gold, truth, _ = _rare(3000, 2)
    taught, alone = (model.probabilities(gold)[:, 1] for model in (found.model, found.dev_only))
    assert average_precision_score(truth, taught) > average_precision_score(truth, alone) + 0.1
    assert taught.mean() == pytest.approx(truth.mean(), abs=0.02)


def test_trees_accept_a_column_without_values() -> None:
    messages, weak_truth = _transactions(300, 0)
    dev, dev_truth = _transactions(60, 1)
    dev = dev.with_columns(tag=pl.Series(np.where(dev_truth, "fraud", "fine")), amount=pl.lit(None, pl.Float64))
    empty = messages.with_columns(amount=pl.lit(None, pl.Float64))
    found = train_classifier(
        empty.lazy(),
        _as_labels(messages, weak_truth).lazy(),
        dev.lazy(),
        classifier="boosted_trees",
        features=["amount", "country"],
    )
    assert found.model.predict_table(empty)["tag"].null_count() == 0


def test_trees_without_features_are_refused(task) -> None:
    with pytest.raises(SpecError, match="boosted_trees needs features"):
        train(task, classifier="boosted_trees")


@pytest.mark.parametrize(("column", "what"), [("tag", "label"), ("id", "key")])
def test_the_label_and_the_key_are_refused_as_features(task, column: str, what: str) -> None:
    with pytest.raises(SpecError, match=f"column '{column}' is the {what}, not a feature"):
        train(task, classifier="boosted_trees", features=["amount", column])


def test_features_for_a_classifier_of_texts_are_refused(task) -> None:
    with pytest.raises(SpecError, match="tfidf_logreg reads only the text, but features are given"):
        train(task, features=["amount"])


def test_a_time_is_refused_as_a_feature(task) -> None:
    later = {n: getattr(task, n).with_columns(at=pl.lit("2026-01-01").str.to_datetime()) for n in ("messages", "dev")}
    with pytest.raises(DataError, match="feature 'at' is Datetime"):
        train_classifier(
            later["messages"].lazy(),
            task.labels.lazy(),
            later["dev"].lazy(),
            classifier="boosted_trees",
            features=["at"],
        )


def test_fewer_dev_rows_than_tags_give_a_warning_with_the_number_of_missing_rows(task) -> None:
    few = task.dev.head(2)
    with capture_logs() as logs:
        found = train_classifier(task.messages.lazy(), task.labels.lazy(), few.lazy())
    warning = next(entry for entry in logs if entry["event"] == "train.few_dev_rows")
    assert (warning["dev_rows"], warning["tags"]) == (2, 3)
    assert "label 1 more rows" in warning["fix"]
    assert found.metrics["dev_rows"] == 2
    assert "held_out_accuracy" not in found.metrics
    assert accuracy(found.model, task.gold) > 0.85


def test_a_tag_without_votes_is_reported_and_learned_from_dev(task) -> None:
    labels = task.labels.filter(pl.col("tag") != "вклад").with_columns(
        probabilities=pl.Series(
            np.tile(np.array([0.9, 0.1, 0.0], np.float32), (task.labels.filter(pl.col("tag") != "вклад").height, 1)),
            dtype=pl.Array(pl.Float32, 3),
        )
    )
    with capture_logs() as logs:
        found = train_classifier(task.messages.lazy(), labels.lazy(), task.dev.lazy())
    warning = next(entry for entry in logs if entry["event"] == "train.tags_without_weak_rows")
    assert "вклад" in warning["tags"]
    assert found.model.never_seen == ()
    given = found.model.predict_table(task.gold)["tag"].cast(pl.String)
    assert ((given == "вклад") & (task.gold["tag"] == "вклад")).sum() > 0


def test_a_tag_without_training_rows_is_reported(task) -> None:
    labels = task.labels.with_columns(
        tag=pl.col("tag").cast(pl.Enum(["card", "credit", "вклад", "other"])),
        probabilities=pl.Series(
            np.pad(task.labels["probabilities"].to_numpy(), ((0, 0), (0, 1))), dtype=pl.Array(pl.Float32, 4)
        ),
    ).with_columns(probabilities=pl.when(pl.col("tag").is_not_null()).then("probabilities"))
    found = train_classifier(task.messages.lazy(), labels.lazy(), task.dev.lazy())
    assert found.model.never_seen == ("other",)
    assert found.metrics["tags_never_seen"] == 1
    assert (found.model.predict_table(task.gold)["tag"] != "other").all()


def test_labels_that_are_all_unknown_are_refused(make_task) -> None:
    task = make_task(50, 10, unknown=1.1)
    with pytest.raises(DataError, match="no message has a label: all 50 rows of labels are unknown") as error:
        train(task)
    assert "write rules" in error.value.fix


def test_a_confidence_that_no_row_reaches_is_refused(task) -> None:
    with pytest.raises(DataError, match=r"unknown or below min_confidence 0\.95"):
        train(task, min_confidence=0.95)


def test_no_dev_rows_are_refused(task) -> None:
    with pytest.raises(DataError, match="dev has no labeled rows"):
        train_classifier(task.messages.lazy(), task.labels.lazy(), task.dev.head(0).lazy())


def test_an_unknown_dev_label_is_reported_with_its_row_and_the_nearest_tag(task) -> None:
    bad = task.dev.with_columns(tag=pl.when(pl.col("id") == 605).then(pl.lit("credt")).otherwise("tag"))
    with pytest.raises(DataError, match=r"dev: row 605 has the label 'credt'.*did you mean 'credit'"):
        train_classifier(task.messages.lazy(), task.labels.lazy(), bad.lazy())


def test_a_dev_row_without_a_label_is_left_out_and_counted(task) -> None:
    some = task.dev.with_columns(tag=pl.when(pl.col("id") != 607).then("tag"))
    with capture_logs() as logs:
        found = train_classifier(task.messages.lazy(), task.labels.lazy(), some.lazy())
    assert found.metrics["dev_rows"] == task.dev.height - 1
    assert next(log for log in logs if log["event"] == "labeled_rows.without_label")["left_out"] == 1


@pytest.mark.parametrize(("value", "row"), [(float("nan"), 3), (1.5, 3), (-0.1, 3)])
def test_an_invalid_probability_is_reported_with_its_row(task, value: float, row: int) -> None:
    p = task.labels["probabilities"].to_list()
    p[row] = [value, 0.1, 0.1]
    labels = task.labels.with_columns(
        probabilities=pl.Series(p, dtype=pl.Array(pl.Float32, 3)), confidence=pl.lit(0.8, dtype=pl.Float32)
    )
    with pytest.raises(DataError, match=f"labels: row {row} has a probability outside 0 to 1, or NaN"):
        train_classifier(task.messages.lazy(), labels.lazy(), task.dev.lazy())


def test_a_duplicate_key_is_refused(task) -> None:
    twice = pl.concat([task.messages, task.messages.head(1)])
    with pytest.raises(DuplicateKeys):
        train_classifier(twice.lazy(), task.labels.lazy(), task.dev.lazy())


def test_keys_of_two_types_are_refused(task) -> None:
    with pytest.raises(DataError, match="column 'id' is Int64 in messages and String in labels"):
        train_classifier(
            task.messages.lazy(), task.labels.with_columns(pl.col("id").cast(pl.String)).lazy(), task.dev.lazy()
        )


def test_texts_without_words_are_refused(task) -> None:
    mute = {n: getattr(task, n).with_columns(text=pl.lit("…")) for n in ("messages", "dev")}
    with pytest.raises(DataError, match="column 'text' has no words"):
        train_classifier(mute["messages"].lazy(), task.labels.lazy(), mute["dev"].lazy())


def test_a_missing_column_is_reported_with_the_nearest_name(task) -> None:
    with pytest.raises(MissingColumn, match=r"dev has no column 'text' \(did you mean 'texts'\?\)"):
        train_classifier(task.messages.lazy(), task.labels.lazy(), task.dev.rename({"text": "texts"}).lazy())


def test_max_rows_bounds_the_weak_rows(task) -> None:
    assert train(task, max_rows=100).metrics["weak_rows"] == 100


@pytest.mark.slow
def test_banking77_beats_the_label_model_and_the_dev_rows_alone(shared_data: Path, banking77: Callable) -> None:
    un, dev, test, labels, test_labels, apart = banking77(shared_data / "banking77", dev_rows=1000)
    found = train_classifier(un.lazy(), labels.lazy(), dev.lazy(), apart.lazy())
    ours = accuracy(found.model, test)
    assert ours > accuracy(found.dev_only, test) + 0.02
    assert ours > (test_labels["tag"].cast(pl.String) == test["tag"]).fill_null(False).mean()
    assert ours > 0.75


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"classifier": "embedding"}, "no classifier 'embedding' \\(did you mean 'embeddings'\\?\\)"),
        ({"dev_weight": -1.0}, "'dev_weight': expected a number above 0.0, found -1.0"),
        ({"dev_weight": 0.0}, "'dev_weight': expected a number above 0.0, found 0.0"),
        ({"dev_weight": float("nan")}, "'dev_weight': expected a finite number, found nan"),
        ({"min_confidence": 2.0}, "'min_confidence': expected a number of at most 1.0, found 2.0"),
        ({"max_rows": 0}, "'max_rows': expected a number of at least 1, found 0"),
        ({"seed": -1}, "'seed': expected a number of at least 0, found -1"),
    ],
)
def test_parameters_out_of_their_range_are_refused_by_name(task, options, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        train(task, **options)


def test_duplicate_dev_keys_are_refused(task) -> None:
    twice = pl.concat([task.dev, task.dev.head(1).with_columns(tag=pl.lit(TAGS[1]))])
    with pytest.raises(DuplicateKeys, match="names 2 rows"):
        train_classifier(task.messages.lazy(), task.labels.lazy(), twice.lazy())
