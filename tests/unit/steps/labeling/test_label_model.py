"""`LabelModel`: estimates from generated votes, uninformative votes, ties, invalid arguments, and saved models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pandas as pd
import polars as pl
import pytest
import structlog
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from kommuna.errors import DataError, KommunaError, MissingColumn, RulesError, SpecError
from kommuna.runtime import codecs
from kommuna.spec import choices
from kommuna.spec.rules import RuleSet
from kommuna.steps.labeling.apply import apply_rules
from kommuna.steps.labeling.label import Labeled, label_messages
from kommuna.steps.labeling.label_model import LabelModel
from kommuna.steps.labeling.votes.label_matrix import from_matrix

NAMES: list[Any] = [name for name in get_args(choices.LabelModelName) if name != "snorkel"]
Floats = np.ndarray[Any, np.dtype[np.float64]]


def generated(
    conditional: Floats, balance: list[float], *, rows: int = 8000, seed: int = 0
) -> tuple[Any, np.ndarray[Any, np.dtype[np.int64]]]:
    """Votes drawn from known conditional probabilities (m x (k + 1) x k)."""
    random = np.random.default_rng(seed)
    truth = random.choice(len(balance), rows, p=balance)
    below = conditional.cumsum(axis=1)[:, :, truth]  # m x (k + 1) x n
    return (random.random((rows, len(conditional))).T[:, None] > below).sum(axis=1).T - 1, truth


def conditional(accuracy: list[float], k: int, coverage: float = 0.5) -> Floats:
    """Rules that vote on half of the rows with the given accuracies; wrong votes are uniform over the other tags."""
    made = np.empty((len(accuracy), k + 1, k))
    for j, a in enumerate(accuracy):
        made[j, 0] = 1 - coverage
        made[j, 1:] = coverage * np.where(np.eye(k), a, (1 - a) / max(k - 1, 1))
    return made


ACCURACY = [0.9, 0.8, 0.85, 0.75, 0.7, 0.8, 0.9, 0.65]


# Estimates from generated votes


@pytest.mark.parametrize("k", [2, 3])
@pytest.mark.parametrize("name", ["kommuna", "dawid_skene", "snorkel_fast"])
def test_conditional_probabilities_are_recovered_without_dev_rows(name: Any, k: int) -> None:
    true = conditional(ACCURACY, k)
    votes, _ = generated(true, [1 / k] * k)
    model = LabelModel(name).fit(votes)
    assert model.conditional_probabilities_.shape == (8, k + 1, k)
    assert np.allclose(model.conditional_probabilities_.sum(axis=1), 1, atol=1e-6)
    assert np.abs(model.conditional_probabilities_ - true).mean() < 0.02
    assert np.abs(model.rule_weights_ - ACCURACY).max() < 0.08


@pytest.mark.parametrize("name", ["kommuna", "dawid_skene", "weighted", "snorkel_fast"])
def test_the_class_balance_is_recovered_with_dev_rows(name: Any) -> None:
    balance = [0.6, 0.3, 0.1]
    true = conditional(ACCURACY, 3)
    votes, truth = generated(true, balance)
    model = LabelModel(name).fit(votes, votes[:500], truth[:500])
    assert np.allclose(model.class_balance_, balance, atol=0.05)
    assert np.abs(model.conditional_probabilities_ - true).mean() < 0.03


def test_the_class_balance_of_snorkel_is_that_of_the_dev_rows_plus_one_row_per_tag() -> None:
    votes, _ = generated(conditional(ACCURACY, 2), [0.5, 0.5], rows=200)
    model = LabelModel("snorkel_fast", epochs=5).fit(votes, votes[:8], [0, 0, 0, 0, 0, 0, 0, 1])
    assert model.class_balance_.tolist() == [0.8, 0.2]
    assert LabelModel("snorkel_fast", epochs=5).fit(votes).class_balance_.tolist() == [0.5, 0.5]


@pytest.mark.slow
def test_probabilities_and_weights_of_snorkel_fast_equal_those_of_the_library() -> None:
    pytest.importorskip("torch")
    from snorkel.labeling.model import LabelModel as Library

    votes, truth = generated(conditional(ACCURACY, 3), [0.5, 0.3, 0.2], rows=2000)
    library = Library(cardinality=3, verbose=False)
    balance = ((np.bincount(truth[:100], minlength=3) + 1) / 103).tolist()
    library.fit(votes, n_epochs=200, seed=5, class_balance=balance, progress_bar=False)
    for name in ("snorkel_fast", "snorkel"):
        model = LabelModel(name, epochs=200, seed=5).fit(votes, votes[:100], truth[:100])
        assert np.allclose(model.conditional_probabilities_, library.get_conditional_probs(), atol=1e-5)
        assert np.allclose(model.rule_weights_, library.get_weights(), atol=1e-5)


def test_estimates_are_expected_frequencies_under_the_predicted_probabilities() -> None:
    """Two rules; row 3 is predicted half and half, row 4 is not predicted at all and is split as the others are."""
    votes = np.array([[0, 0], [0, -1], [1, 0], [-1, -1]])
    model = LabelModel("majority").fit(votes)
    assert np.allclose(model.class_balance_, [2.5 / 3, 0.5 / 3])
    given = np.array([2.5, 0.5]) / 3 * 4
    assert np.allclose(
        model.conditional_probabilities_[0], [1 - np.array([2.5, 0.5]) / given, [2, 0] / given, [0.5, 0.5] / given]
    )
    assert np.allclose(model.rule_weights_, [2.5 / 3, 1.5 / 2])


@pytest.mark.parametrize("name", ["kommuna", "weighted", "dawid_skene"])
def test_dev_rows_show_a_rule_that_is_worse_than_chance(name: Any) -> None:
    accuracy = [0.85, 0.8, 0.2, 0.15, 0.75]
    votes, truth = generated(conditional(accuracy, 2), [0.5, 0.5], rows=6000)
    model = LabelModel(name).fit(votes[300:], votes[:300], truth[:300])
    assert np.abs(model.rule_weights_ - accuracy).max() < 0.1
    alone = np.array([[-1, -1, 0, -1, -1], [-1, -1, -1, 1, -1]])
    assert model.predict(alone).tolist() == [1, 0]
    majority = LabelModel("majority").fit(votes)
    assert model.score(votes[300:], truth[300:]) > majority.score(votes[300:], truth[300:]) + 0.15


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dev", [0, 100])
def test_renamed_tags_have_the_same_probabilities_in_their_columns(name: Any, dev: int) -> None:
    votes, truth = generated(conditional(ACCURACY, 2), [0.6, 0.4], rows=1500)
    flipped = np.where(votes >= 0, 1 - votes, -1)
    rows = (votes[:dev], truth[:dev]), (flipped[:dev], 1 - truth[:dev])
    one, two = (LabelModel(name).fit(v, *(r if dev else ())) for v, r in zip((votes, flipped), rows, strict=True))
    assert np.allclose(one.predict_proba(votes), two.predict_proba(flipped)[:, ::-1], atol=1e-4)
    assert np.allclose(one.conditional_probabilities_[:, 1:], two.conditional_probabilities_[:, :0:-1, ::-1], atol=1e-4)


# Uninformative votes


DEGENERATE = {
    "all abstain": [[-1] * 4] * 6,
    "one row": [[0, 1, -1, 1]],
    "one class": [[1, 1, -1, 1], [-1, 1, 1, -1], [1, -1, -1, -1]],
    "all the same": [[0, 0, 0, 1]] * 20,
    "a rule that never votes": [[0, 0, 1, -1], [1, 1, 1, -1], [0, -1, 0, -1]] * 5,
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("dev", [False, True])
def test_uninformative_votes_give_valid_probabilities(name: Any, case: str, dev: bool) -> None:
    votes = np.array(DEGENERATE[case])
    rows = (votes, np.arange(len(votes)) % 2) if dev else ()
    model = LabelModel(name, cardinality=2, epochs=50).fit(votes, *rows)
    predicted = model.predict_proba(np.vstack([votes, [[-1] * 4]]))
    assert np.isfinite(predicted).all()
    assert np.allclose(predicted.sum(axis=1), 1)
    assert predicted[-1].tolist() == [0.5, 0.5]
    assert model.predict(np.array([[-1] * 4])).tolist() == [-1]
    assert np.isfinite(model.conditional_probabilities_).all()
    assert model.class_balance_.sum() == pytest.approx(1)
    assert np.isnan(model.rule_weights_).tolist() == (votes == -1).all(axis=0).tolist()
    if case == "one class" and not dev:
        assert set(model.predict(votes)) == {1}


@pytest.mark.parametrize("name", NAMES)
def test_a_single_rule_is_followed_except_by_the_model_of_snorkel_which_refuses_it(name: Any) -> None:
    votes = np.array([[0], [1], [-1], [1]])
    if name == "snorkel_fast":
        with pytest.raises(RulesError, match="at least three rules, but there is 1"):
            LabelModel(name).fit(votes)
        return
    assert LabelModel(name).fit(votes).predict(votes).tolist() == [0, 1, -1, 1]


# Ties


TIED = np.array([[0, 1, -1], [2, 1, 0], [1, 1, 0], [-1, -1, -1]])


@pytest.mark.parametrize(("policy", "predicted"), [("abstain", [-1, -1, 1, -1]), ("first", [0, 0, 1, 0])])
def test_a_tie_is_resolved_by_the_policy(policy: Any, predicted: list[int]) -> None:
    assert LabelModel("majority", tie_policy=policy).fit(TIED).predict(TIED).tolist() == predicted
    named = LabelModel("majority", tags=["a", "b", "c"], tie_policy=policy).fit(TIED).predict(TIED)
    assert named.tolist() == [None if place < 0 else "abc"[place] for place in predicted]


def test_a_random_tie_depends_on_the_seed_and_the_votes_only() -> None:
    random = np.random.default_rng(0)
    votes = random.integers(-1, 3, (3000, 8))
    model = LabelModel("majority", tie_policy="random").fit(votes)
    predicted, proba = model.predict(votes), model.predict_proba(votes)
    order = random.permutation(3000)
    assert (model.predict(votes[order]) == predicted[order]).all()
    assert (model.predict(votes[:7]) == predicted[:7]).all()
    ties = proba >= proba.max(axis=1, keepdims=True) - 1e-9
    assert ties[np.arange(3000), predicted].all()
    two = ties.sum(axis=1) == 2
    assert 0.45 < (predicted[two] == ties[two].argmax(axis=1)).mean() < 0.55
    other = model.set_params(seed=1).predict(votes)
    assert (other[~(ties.sum(axis=1) > 1)] == predicted[~(ties.sum(axis=1) > 1)]).all()
    assert 0.3 < (other[two] == predicted[two]).mean() < 0.7


# Arguments


RULES = {
    "tags": ["card", "loan"],
    "rules": [
        {"name": "card_word", "tag": "card", "any": ["card"]},
        {"name": "lost", "tag": "card", "any": ["lost"]},
        {"name": "loan_word", "tag": "loan", "any": ["loan"]},
        {"name": "no_card", "tag": "card", "any": ["hello"], "against": True},
    ],
}


@pytest.fixture
def rules() -> RuleSet:
    return RuleSet.read(RULES)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("with_dev", [False, True])
def test_the_class_and_the_step_predict_the_same(name: Any, with_dev: bool, rules: RuleSet) -> None:
    matrix, truth = generated(conditional(ACCURACY[:4], 2), [0.7, 0.3], rows=400)
    votes = from_matrix(matrix, rules)
    tags = ["card" if t == 0 else "loan" for t in truth[:60]]
    dev = pl.DataFrame({"id": range(60), "tag": tags}).lazy() if with_dev else None
    step = label_messages(votes.lazy(), rules, votes.head(60).lazy() if with_dev else None, dev, model=name, epochs=50)
    model = LabelModel(name, epochs=50).fit(votes, *((votes.head(60), tags) if with_dev else ()))
    labels = step.labels.collect()
    known = labels["tag"].is_not_null().to_numpy()
    assert np.allclose(model.predict_proba(votes)[known], labels["probabilities"].drop_nulls().to_numpy(), atol=1e-5)
    assert model.classes_.tolist() == ["card", "loan"]
    sure = known & (labels["confidence"].fill_null(0) > 0.5 + 1e-4).to_numpy()
    assert model.predict(votes)[sure].tolist() == labels["tag"].cast(pl.String).filter(pl.Series(sure)).to_list()


def test_a_matrix_and_tables_of_all_kinds_are_the_same_votes() -> None:
    matrix = np.array([[0, 1, -1], [1, 1, 1], [-1, 0, 0], [0, -1, -1]])
    columns = ["x", "y", "z"]
    numbers = pl.DataFrame(matrix, schema=columns)
    named = pl.DataFrame({c: [None if v < 0 else "ab"[v] for v in numbers[c]] for c in columns})
    expected = LabelModel("majority").fit(matrix).predict_proba(matrix)
    for votes in (
        matrix.tolist(),
        matrix.astype(np.int8),
        np.where(matrix < 0, np.nan, matrix),
        numbers,
        numbers.lazy(),
        numbers.to_pandas(),
        pd.DataFrame(np.where(matrix < 0, np.nan, matrix), columns=columns),
        numbers.with_columns(id=pl.lit("k")),
    ):
        model = LabelModel("majority").fit(votes)
        assert np.array_equal(model.predict_proba(votes), expected)
        assert model.classes_.tolist() == [0, 1]
    for votes in (named, named.to_pandas(), named.cast(pl.Enum(["a", "b"])), named.cast(pl.Categorical)):
        model = LabelModel("majority", tags=["a", "b"]).fit(votes)
        assert np.array_equal(model.predict_proba(votes), expected)
        assert np.array_equal(model.predict_proba(matrix), expected)
    assert np.array_equal(LabelModel("majority").fit(named.cast(pl.Enum(["a", "b"]))).predict_proba(named), expected)


def test_the_result_of_apply_rules_is_accepted_with_votes_against_tags(rules: RuleSet) -> None:
    messages = pl.DataFrame({"id": [1, 2, 3], "text": ["lost card", "a loan", "hello"]})
    applied = apply_rules(messages, rules)
    model = LabelModel("majority").fit(applied)
    assert model.predict(applied).tolist() == ["card", "loan", "loan"]  # of two tags, what is no card is a loan
    assert model.rules_ == ("card_word", "lost", "loan_word", "no_card")
    assert model.rule_weights_.tolist() == [1, 1, 1, 1]


def test_columns_are_selected_by_name_and_a_missing_one_is_named() -> None:
    votes = pl.DataFrame({"x": [0, 1, -1], "y": [0, -1, 1]})
    model = LabelModel("weighted", cardinality=2).fit(votes)
    assert np.array_equal(model.predict_proba(votes.select("y", "x")), model.predict_proba(votes))
    with pytest.raises(MissingColumn, match=r"no column for rule 'y' .did you mean 'yy'"):
        model.predict(votes.rename({"y": "yy"}))


def test_the_order_of_rows_does_not_change_the_model() -> None:
    votes, _ = generated(conditional(ACCURACY, 2), [0.5, 0.5], rows=500)
    order = np.random.default_rng(0).permutation(500)
    for name in NAMES:
        one, two = LabelModel(name, epochs=20).fit(votes), LabelModel(name, epochs=20).fit(votes[order])
        assert np.array_equal(one.predict_proba(votes), two.predict_proba(votes))


def test_unlabeled_dev_rows_are_left_out() -> None:
    votes, truth = generated(conditional(ACCURACY, 2), [0.5, 0.5], rows=500)
    some = LabelModel("weighted", tags=["a", "b"]).fit(votes, votes[:40], ["ab"[t] for t in truth[:40]])
    more = LabelModel("weighted", tags=["a", "b"]).fit(
        votes, votes[:60], pd.Series(["ab"[t] for t in truth[:40]] + [None] * 20)
    )
    assert np.array_equal(some.predict_proba(votes), more.predict_proba(votes))
    numbered = LabelModel("weighted").fit(votes, votes[:60], [*truth[:40], *[-1] * 20])
    assert np.array_equal(some.predict_proba(votes), numbered.predict_proba(votes))


@pytest.mark.parametrize(
    "labels",
    [
        pd.Series(["a", "b", pd.NA] * 20, dtype="string"),
        pd.Series(pd.Categorical(["a", "b", None] * 20)),
        pl.Series(["a", "b", None] * 20),
        ["a", "b", pd.NaT] * 20,
    ],
    ids=["string", "categorical", "polars", "NaT"],
)
def test_missing_labels_of_every_library_are_left_out(labels: Any) -> None:
    votes, _ = generated(conditional(ACCURACY, 2), [0.5, 0.5], rows=60)
    labeled = np.arange(60) % 3 < 2
    expected = LabelModel("weighted", tags=["a", "b"]).fit(votes, votes[labeled], ["a", "b"] * 20)
    found = LabelModel("weighted", tags=["a", "b"]).fit(votes, votes, labels)
    assert np.array_equal(found.predict_proba(votes), expected.predict_proba(votes))
    numbers = pd.Series([0, 1, None] * 20, dtype="Int64")
    numbered = LabelModel("weighted").fit(votes, votes, numbers)
    assert np.array_equal(numbered.predict_proba(votes), expected.predict_proba(votes))


@pytest.mark.parametrize("tags", [np.array(["b", "a"]), pl.Series(["b", "a"]), pd.Series(["b", "a"]), ("b", "a")])
def test_tags_are_any_ordered_names(tags: Any, tmp_path: Path) -> None:
    model = LabelModel("majority", tags=tags).fit(MATRIX)
    assert model.classes_.tolist() == ["b", "a"]
    model.save(tmp_path / "model")
    assert LabelModel.load(tmp_path / "model").predict(np.array([[1, 1]])).tolist() == ["a"]


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_dev_rows_does_not_change_the_model(name: Any) -> None:
    true = conditional(ACCURACY[:5], 3)
    votes, truth = generated(true, [0.6, 0.3, 0.1], rows=400, seed=1)
    fitted = LabelModel(name, epochs=20).fit(votes, votes[:40], truth[:40]).predict_proba(votes)
    for seed in range(4):
        order = np.random.default_rng(seed).permutation(40)
        again = LabelModel(name, epochs=20).fit(votes, votes[:40][order], truth[:40][order])
        assert np.array_equal(again.predict_proba(votes), fitted)


def test_a_class_that_only_dev_rows_have_is_a_class() -> None:
    votes = np.array([[0, 1], [1, 1], [0, -1]])
    model = LabelModel("dawid_skene").fit(votes, votes, [0, 1, 2])
    assert model.classes_.tolist() == [0, 1, 2]
    assert model.predict_proba(votes).shape == (3, 3)


MATRIX = np.array([[0, 1], [1, 0]])
REFUSED: dict[str, tuple[Any, ...]] = {
    "a LabelModel supports one tag per row": ({"tags": RuleSet.read(RULES | {"multi_label": True})}, MATRIX),
    "Int8 with nulls, which means that rows may have several tags": (
        {}, pl.DataFrame({"a": pl.Series([1, 0, None], dtype=pl.Int8)})
    ),
    "must be a matrix of whole numbers or a table, not bool": ({}, MATRIX == 0),
    "must be a matrix of whole numbers or a table, not int64 of shape": ({}, MATRIX[0]),
    "votes is not a table but a Labeled": ({}, Labeled(pl.LazyFrame(), None, None, {})),
    "'b': 5 is not a vote: votes are -1 to 1": ({"cardinality": 2}, pl.DataFrame({"a": [0, 1], "b": [0, 5]})),
    "'rule_0': 0.5 is not a vote": ({}, MATRIX / 2),
    "'rule_1': -2 is not a vote": ({}, MATRIX - [0, 2]),
    "'a' are String, and the tags are unknown": ({}, pl.DataFrame({"a": ["x", None]})),
    "'a': 'lone' is not a tag .did you mean 'loan'": ({"tags": ["card", "loan"]}, pl.DataFrame({"a": ["lone"]})),
    "cardinality is 3, but there are 2 tags": ({"tags": ["card", "loan"], "cardinality": 3}, MATRIX),
    "tags must be a list of distinct names": ({"tags": ["card", "card"]}, MATRIX),
    "tags must be a list of str, not 'card'": ({"tags": "card"}, MATRIX),
    "the votes have no rows": ({}, np.zeros((0, 3), dtype=int)),
    "the votes have no column": ({}, pl.DataFrame({"id": [1]})),
    "there is no label model 'komuna' .did you mean 'kommuna'": ({"model": "komuna"}, MATRIX),
    "unknown tie policy 'randm' .did you mean 'random'": ({"tie_policy": "randm"}, MATRIX),
    "dev_labels is missing": ({}, MATRIX, MATRIX),
    "there are 2 dev_votes and 1 dev_labels": ({}, MATRIX, MATRIX, [0]),
    "labels: 7 is not one of the tags": ({"cardinality": 2}, MATRIX, MATRIX, [0, 7]),
    "labels: 'a' is not one of the tags": ({}, MATRIX, MATRIX, ["a", "b"]),
    "labels: inf is not one of the tags": ({}, MATRIX, MATRIX, [0, np.inf]),
    "labels: .1. is not one of the tags": ({}, MATRIX, MATRIX, pl.Series([[1], [0]])),
    "tags must be a list of str, not {'card'}": ({"tags": {"card"}}, MATRIX),
    "tags must be a list of str, not <generator": ({"tags": (tag for tag in "ab")}, MATRIX),
    "cardinality is 2.5, not a whole number": ({"cardinality": 2.5}, MATRIX),
    "cardinality is '3', not a whole number": ({"cardinality": "3"}, MATRIX),
    "seed=None is not a whole number": ({"seed": None}, MATRIX),
    "seed=True is not a whole number": ({"seed": True}, MATRIX),
    "iterations=1.5 is not a whole number": ({"model": "dawid_skene", "iterations": 1.5}, MATRIX),
    "epochs='5' is not a whole number": ({"epochs": "5"}, MATRIX),
    "memory=4: ": ({"memory": 4}, MATRIX),
    "there is no label model '..kommuna..'": ({"model": ["kommuna"]}, MATRIX),
}  # fmt: skip


@pytest.mark.parametrize("words", REFUSED)
def test_invalid_arguments_are_refused(words: str) -> None:
    predicted, *fit_on = REFUSED[words]
    with pytest.raises(KommunaError, match=words):
        LabelModel(**predicted).fit(*fit_on)


# The interface of scikit-learn, and saved models


def test_it_supports_clone_and_set_params(rules: RuleSet) -> None:
    model = LabelModel("dawid_skene", tags=rules, iterations=3, tie_policy="first")
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert copy.set_params(seed=4).get_params()["seed"] == 4
    with pytest.raises(NotFittedError):
        copy.predict(MATRIX)
    assert not hasattr(copy, "rule_weights_")
    assert copy.fit(MATRIX) is copy


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tags", [None, ["карта", "b"]])
@pytest.mark.parametrize("dev", [0, 80])
def test_a_loaded_model_predicts_exactly_the_same(name: Any, tags: Any, dev: int, tmp_path: Path) -> None:
    votes, truth = generated(conditional(ACCURACY[:5], 2), [0.7, 0.3], rows=600)
    labels = truth[:dev] if tags is None else [tags[t] for t in truth[:dev]]
    model = LabelModel(name, tags=tags, seed=3, epochs=30, tie_policy="random")
    model.fit(votes, *((votes[:dev], labels) if dev else ()))
    model.save(tmp_path / "model")
    with structlog.testing.capture_logs() as logs:
        again = LabelModel.load(str(tmp_path / "model"))
    assert not [line for line in logs if line["event"] == "label_model.differs"]
    assert np.array_equal(again.predict_proba(votes), model.predict_proba(votes))
    assert again.predict(votes).tolist() == model.predict(votes).tolist()
    assert np.array_equal(again.conditional_probabilities_, model.conditional_probabilities_)
    assert again.rules_ == model.rules_
    assert {**again.get_params(), "cardinality": None} == model.get_params()


def test_different_predictions_of_another_version_are_warned_of(tmp_path: Path) -> None:
    votes, _ = generated(conditional(ACCURACY, 2), [0.5, 0.5], rows=200)
    LabelModel("majority").fit(votes).save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz", allow_pickle=False) as file:  # plain arrays: nothing in it is code
        arrays = dict(file)
    arrays["probabilities"] = arrays["probabilities"][:, ::-1]
    np.savez(tmp_path / "model.npz", **arrays)
    with structlog.testing.capture_logs() as logs:
        LabelModel.load(tmp_path / "model.npz")
    assert [line["most"] for line in logs if line["event"] == "label_model.differs"] == [1.0]


def test_a_file_that_is_not_a_label_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file"):
        LabelModel.load(tmp_path / "none")
    other = tmp_path / "other.npz"
    for write in (lambda: other.write_text("{}"), lambda: other.write_bytes(b""), lambda: np.savez(other, a=[1])):
        write()
        with pytest.raises(DataError, match=r"other\.npz is not a file of a LabelModel"):
            LabelModel.load(other)
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match="not a file of a LabelModel"):
        LabelModel.load(tmp_path / "pickled.npy")


@pytest.mark.parametrize(
    "edit",
    [
        lambda arrays: {"votes": arrays["votes"][:-1]},
        lambda arrays: {"votes": arrays["votes"][:, :-1]},
        lambda arrays: {"votes": arrays["votes"] + np.int16(90)},
        lambda arrays: {"votes": arrays["votes"].astype(float)},
        lambda arrays: {"counts": arrays["counts"] - 500},
        lambda arrays: {"dev_truth": arrays["dev_truth"] + 2},
        lambda arrays: {"dev_votes": arrays["dev_votes"][1:]},
        lambda arrays: {"probabilities": arrays["probabilities"][:, :1]},
        lambda arrays: _settings(arrays, rules=["one"]),
        lambda arrays: _settings(arrays, rules=None),
        lambda arrays: _settings(arrays, seed=None),
        lambda arrays: _settings(arrays, unknown=1),
        lambda arrays: {"settings": np.frombuffer(b"[1]", dtype=np.uint8)},
    ],
)
def test_an_edited_file_is_refused(edit: Any, tmp_path: Path) -> None:
    votes, truth = generated(conditional(ACCURACY, 2), [0.5, 0.5], rows=50)
    LabelModel("majority").fit(votes, votes[:20], truth[:20]).save(tmp_path / "model.npz")
    with np.load(tmp_path / "model.npz", allow_pickle=False) as file:
        arrays = dict(file)
    np.savez(tmp_path / "model.npz", **(arrays | edit(arrays)))
    with pytest.raises(KommunaError):
        LabelModel.load(tmp_path / "model.npz")


def _settings(arrays: dict[str, Any], **changed: Any) -> dict[str, Any]:
    settings = json.loads(arrays["settings"].tobytes()) | changed
    return {"settings": np.frombuffer(json.dumps(settings).encode(), dtype=np.uint8)}


def test_steps_can_return_and_accept_a_label_model(tmp_path: Path) -> None:
    model = LabelModel("weighted").fit(MATRIX)
    written = codecs.write(model, tmp_path / "model")
    assert (written.kind, written.suffix) == ("model", ".npz")
    again = codecs.read("model", Path(written.path), LabelModel, source="model", made=True)
    assert np.array_equal(again.predict_proba(MATRIX), model.predict_proba(MATRIX))


def test_an_unknown_model_is_a_spec_error() -> None:
    with pytest.raises(SpecError, match="name one of kommuna, majority"):
        LabelModel("none").fit(MATRIX)  # type: ignore[arg-type]


def test_score_ignores_unlabeled_rows_and_refuses_unknown_tags() -> None:
    votes = np.array([[0, -1], [-1, -1], [1, 1]])
    model = LabelModel("majority", tags=["x", "y"]).fit(votes)
    assert model.score(votes, ["x", None, "x"]) == 0.5
    with pytest.raises(RulesError, match="'z' is not one of the tags"):
        model.score(votes, ["x", "z", "y"])
    with pytest.raises(DataError, match="2 labels for 3 rows"):
        model.score(votes, ["x", "y"])


def test_a_seed_of_a_numpy_type_can_be_saved(tmp_path: Path) -> None:
    model = LabelModel("majority", cardinality=2, seed=np.int64(5)).fit(np.array([[0, 1], [1, 1]]))
    model.save(tmp_path / "model.npz")
    assert LabelModel.load(tmp_path / "model.npz").seed == 5
