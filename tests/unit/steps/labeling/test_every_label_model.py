"""Properties of all label models, called through the step, on difficult votes."""

import inspect
from typing import Any, get_args

import numpy as np
import polars as pl
import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.rigs.vote_patterns import patterns

from kommuna.errors import DataError, DuplicateKeys, RulesError
from kommuna.spec import choices
from kommuna.steps.labeling.label import label_messages
from kommuna.steps.labeling.models.base import DevRows
from kommuna.steps.labeling.models.registry import MODELS, Settings
from kommuna.steps.labeling.models.snorkel.library import SnorkelModel
from kommuna.steps.labeling.votes.label_matrix import from_matrix
from kommuna.steps.labeling.votes.patterns import Codes, VotePatterns

TAGS = ["a", "b", "c"]
SLOW = {"snorkel"}  # its own tests need torch
NAMES = [name for name in get_args(choices.LabelModelName) if name not in SLOW]
SETTINGS = Settings(epochs=50)


def generated(
    *, rows: int, rules: int, k: int, seed: int, one_class: bool = False
) -> tuple[Codes, np.ndarray[Any, np.dtype[np.int64]]]:
    """Votes of rules of accuracy .4 to .9, independent given the tag."""
    random = np.random.default_rng(seed)
    truth = random.choice(k, rows, p=random.dirichlet(np.full(k, 5.0)))
    accuracy = random.uniform(0.4, 0.9, rules)
    wrong = (truth[:, None] + random.integers(1, k, (rows, rules))) % k
    votes = np.where(random.random((rows, rules)) < accuracy, truth[:, None], wrong)
    if one_class:
        return np.where(votes == np.arange(rules) % k, votes, -1).astype(np.int16), truth
    return np.where(random.random((rows, rules)) < 0.4, votes, -1).astype(np.int16), truth


def test_every_choice_is_a_model_and_the_first_is_the_default() -> None:
    assert list(MODELS) == list(get_args(choices.LabelModelName))
    assert inspect.signature(label_messages).parameters["model"].default == next(iter(MODELS)) == "kommuna"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("with_dev", [False, True])
def test_the_order_of_tags_changes_no_probability(name: Any, with_dev: bool) -> None:
    k = 4
    matrix, truth = generated(rows=900, rules=9, k=k, seed=0)
    to = np.array([2, 0, 3, 1])
    renamed = np.where(matrix >= 0, to[matrix], -1).astype(np.int16)
    dev, other = DevRows(matrix[:200], truth[:200]), DevRows(renamed[:200], to[truth[:200]])
    one = MODELS[name](SETTINGS).fit(patterns(matrix, k), dev if with_dev else None).predict(matrix)
    two = MODELS[name](SETTINGS).fit(patterns(renamed, k), other if with_dev else None).predict(renamed)
    assert np.allclose(one, two[:, to], atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("with_dev", [False, True])
def test_the_order_of_rules_changes_no_probability(name: Any, with_dev: bool) -> None:
    matrix, truth = generated(rows=900, rules=9, k=3, seed=1)
    order = np.random.default_rng(0).permutation(9)
    dev, other = DevRows(matrix[:200], truth[:200]), DevRows(matrix[:200, order], truth[:200])
    one = MODELS[name](SETTINGS).fit(patterns(matrix, 3), dev if with_dev else None).predict(matrix)
    two = (
        MODELS[name](SETTINGS).fit(patterns(matrix[:, order], 3), other if with_dev else None).predict(matrix[:, order])
    )
    assert np.allclose(one, two, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@settings(deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000), times=st.integers(2, 4))
def test_a_pattern_with_a_count_equals_that_many_rows(name: Any, seed: int, times: int) -> None:
    matrix, truth = generated(rows=60, rules=4, k=2, seed=seed, one_class=seed % 2 == 0)
    dev = DevRows(matrix[:20], truth[:20])
    rows = patterns(np.repeat(matrix, times, axis=0), 2)
    once = patterns(matrix, 2)
    counted = VotePatterns(once.votes, once.counts * times, np.repeat(once.row_pattern, times), once.tags, once.rules)
    predicted = [MODELS[name](SETTINGS).fit(votes, dev).predict(matrix) for votes in (rows, counted)]
    assert np.allclose(*predicted, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("with_dev", [False, True])
@settings(deadline=None, max_examples=25)
@given(
    rows=st.lists(st.lists(st.integers(-1, 5), min_size=3, max_size=3), min_size=1, max_size=30),
    seed=st.integers(0, 100),
)
def test_predictions_are_probabilities_for_any_votes(
    name: Any, with_dev: bool, rows: list[list[int]], seed: int
) -> None:
    matrix = np.array(rows, dtype=np.int16)  # 3 to 5 vote against tags 0 to 2
    if name == "snorkel_fast":
        matrix = np.where(matrix >= 3, -1, matrix).astype(np.int16)
    dev = DevRows(matrix, np.random.default_rng(seed).integers(0, 3, len(matrix))) if with_dev else None
    new_votes = np.vstack([matrix, [[0, 1, 2], [-1, -1, -1]]]).astype(np.int16)
    probabilities = MODELS[name](SETTINGS).fit(patterns(matrix, 3), dev).predict(new_votes)
    assert np.isfinite(probabilities).all()
    assert (probabilities >= 0).all()
    assert np.allclose(probabilities.sum(axis=1), 1)


@pytest.fixture
def rules(rule_set: Any) -> Any:
    return rule_set(*({"name": f"r{j}", "tag": TAGS[j % 3], "any": ["x"]} for j in range(4)), tags=TAGS)


def labeled(matrix: Any, rules: Any, model: Any, truth: Any = None, keys: Any = None) -> tuple[pl.DataFrame, Any]:
    votes = from_matrix(np.array(matrix), rules, keys=keys).lazy()
    dev = None
    if truth is not None:
        dev = pl.LazyFrame({"id": range(len(truth)), "tag": [TAGS[t] for t in truth]})
    done = label_messages(votes, rules, None if dev is None else votes.head(len(truth)), dev, model=model, epochs=50)
    return done.labels.collect(), done.metrics


@pytest.mark.parametrize("name", NAMES)
def test_rows_without_votes_stay_unknown_even_if_all_rows_have_none(name: Any, rules: Any) -> None:
    table, metrics = labeled([[-1] * 4] * 30, rules, name)
    assert table.drop("id").null_count().row(0) == (30, 30, 30)
    assert metrics["labeled"] == 0
    assert metrics["confidence"] == 0
    assert metrics["tags_without_votes"] == 3
    table, metrics = labeled([[-1] * 4] * 30, rules, name, truth=[0] * 29 + [1])
    assert table["tag"].null_count() == 30
    assert (metrics["dev_accuracy"], metrics["dev_coverage"], metrics["dev_calibration_error"]) == (0, 0, 0)


@pytest.mark.parametrize("name", NAMES)
def test_the_most_frequent_tag_is_not_assigned_to_rows_without_votes(name: Any, rules: Any) -> None:
    matrix = [[0, -1, -1, 0]] * 50 + [[-1, 1, -1, -1]] * 5 + [[-1] * 4] * 20
    table, _ = labeled(matrix, rules, name, truth=[0] * 50 + [1] * 5)
    assert table["tag"].to_list() == ["a"] * 50 + ["b"] * 5 + [None] * 20


def test_abstentions_of_the_rules_of_a_tag_never_assign_the_tag(rule_set: Any) -> None:
    """Rule a is right where it votes and hardly votes; tag a is on nine rows of ten. Row 3's own vote is for b."""
    rules = rule_set({"name": "a", "tag": "a", "any": ["x"]}, {"name": "b", "tag": "b", "any": ["x"]}, multi_label=True)
    votes = pl.DataFrame(
        {"id": range(200), "a": [1] * 20 + [None] * 180, "b": [None] * 20 + [1] * 80 + [None] * 100},
        schema={"id": pl.Int64, "a": pl.Int8, "b": pl.Int8},
    ).lazy()
    dev = pl.LazyFrame({"id": range(200), "tags": ["a|b"] * 190 + [""] * 10})
    table = label_messages(votes, rules, votes, dev, label="tags").labels.collect()
    assert all("a" in tags for tags in table["tags"][:20])
    assert all("a" not in tags for tags in table["tags"][20:100])
    assert table["probabilities"].to_numpy()[50][0] > 0.3
    assert table["tags"][100:].null_count() == 100


@pytest.mark.parametrize("name", [name for name in NAMES if name != "snorkel_fast"])
def test_a_single_rule_labels_rows(name: Any, rule_set: Any) -> None:
    rules = rule_set({"name": "r", "tag": "b", "any": ["x"]}, tags=TAGS)
    table, _ = labeled([[1], [-1], [1]] * 10, rules, name)
    assert table["tag"].to_list() == ["b", None, "b"] * 10
    table, metrics = labeled([[1], [-1], [1]] * 10, rules, name, truth=[1, 0, 1] * 10)
    assert table["tag"].to_list() == ["b", None, "b"] * 10
    assert metrics["dev_accuracy"] == pytest.approx(2 / 3)


def test_a_single_rule_is_refused_by_the_model_that_needs_three(rule_set: Any) -> None:
    rules = rule_set({"name": "r", "tag": "a", "any": ["x"]}, tags=TAGS)
    with pytest.raises(RulesError, match="'snorkel_fast' needs at least three rules, but there is 1"):
        labeled([[0]], rules, "snorkel_fast")


@pytest.mark.parametrize(
    "name", [name for name in NAMES if name != "snorkel_fast" and MODELS[name](SETTINGS).learns_from_dev]
)
def test_dev_rows_decide_between_two_opposite_rules(name: Any, rule_set: Any) -> None:
    rules = rule_set(
        {"name": "r0", "tag": "a", "any": ["x"]}, {"name": "r1", "tag": "b", "any": ["x"]}, tags=["a", "b"]
    )
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 200)
    first = np.where(random.random(200) < 0.95, truth, 1 - truth)
    matrix = np.stack([first, 1 - first], axis=1)
    table, metrics = labeled(matrix, rules, name, truth=truth[:100])
    predicted = table["tag"].to_physical().to_numpy()
    assert (predicted == first).all()
    assert metrics["dev_accuracy"] > 0.85


@pytest.mark.parametrize("name", [name for name in NAMES if name != "snorkel_fast"])
def test_two_opposite_rules_are_undecided_without_dev_rows(name: Any, rule_set: Any) -> None:
    rules = rule_set(
        {"name": "r0", "tag": "a", "any": ["x"]}, {"name": "r1", "tag": "b", "any": ["x"]}, tags=["a", "b"]
    )
    first = np.array([0, 1] * 50)
    table, _ = labeled(np.stack([first, 1 - first], axis=1), rules, name)
    assert np.allclose(table["probabilities"].to_numpy(), 0.5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_a_tag_without_votes_is_warned_of_and_never_assigned(name: Any, rules: Any) -> None:
    matrix, truth = generated(rows=300, rules=4, k=2, seed=3)  # nobody votes for c
    with structlog.testing.capture_logs() as logs:
        table, metrics = labeled(matrix, rules, name, truth=truth[:100])
    assert metrics["tags_without_votes"] == 1
    assert next(log for log in logs if log["event"] == "label.tags_without_votes")["tags"] == ["c"]
    assert "c" not in table["tag"].drop_nulls().cast(pl.String).to_list()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "snorkel_fast"])
def test_the_confidence_is_as_low_as_contradictory_dev_rows_require(name: Any, rule_set: Any) -> None:
    rules = rule_set(
        {"name": "r0", "tag": "a", "any": ["x"]}, {"name": "r1", "tag": "b", "any": ["x"]}, tags=["a", "b"]
    )
    matrix = [[0, -1], [0, -1], [-1, 1], [-1, 1]] * 50
    table, metrics = labeled(matrix, rules, name, truth=[0, 0, 0, 1] * 50)
    half = table["confidence"].to_numpy()[2]
    assert half < 0.8
    assert metrics["dev_calibration_error"] < 0.3
    if name in ("kommuna", "dawid_skene", "weighted"):
        assert table["confidence"].to_numpy()[0] > half + 0.1


def test_duplicate_dev_keys_are_refused_even_if_the_labels_agree(rules: Any) -> None:
    votes = from_matrix(np.array([[0, -1, -1, -1], [1, 1, -1, -1]]), rules).lazy()
    dev = pl.LazyFrame({"id": [0, 0], "tag": ["a", "b"]})
    with pytest.raises(DuplicateKeys, match="column 'id': 0 names 2 rows"):
        label_messages(votes, rules, votes, dev)


def test_votes_for_an_unknown_class_are_refused_with_rule_and_row(rules: Any) -> None:
    votes = from_matrix(np.array([[0, -1, -1, -1]] * 3), rules).with_columns(r1=pl.Series([None, "A", None]))
    with pytest.raises(RulesError, match="votes of rule 'r1': 'A' is not a tag") as caught:
        label_messages(votes.lazy(), rules)
    assert caught.value.where == "row 1"


def test_keys_that_name_several_rows_are_refused(rules: Any) -> None:
    with pytest.raises(DuplicateKeys, match="column 'id': 'x' names 2 rows"):
        labeled([[0, -1, -1, -1]] * 2, rules, "kommuna", keys=["x", "x"])


@pytest.mark.slow
@pytest.mark.torch
def test_probabilities_that_are_not_numbers_are_an_error_with_the_row(rule_set: Any) -> None:
    """The library multiplies probabilities: of a row with hundreds of votes the product underflows."""
    pytest.importorskip("torch")
    random = np.random.default_rng(0)
    matrix = np.where(random.random((300, 600)) < 0.03, random.integers(0, 2, (300, 600)), -1).astype(np.int16)
    matrix[7] = random.integers(0, 2, 600)
    rules = rule_set(*({"name": f"r{j}", "tag": "a", "any": ["x"]} for j in range(600)), tags=["a", "b"])
    assert np.isnan(SnorkelModel(epochs=1).fit(patterns(matrix, 2)).predict(matrix)).any()
    votes = from_matrix(matrix, rules).lazy()
    with pytest.raises(DataError, match="the label model 'snorkel' gives probabilities that are not numbers") as caught:
        label_messages(votes, rules, model="snorkel", epochs=1)
    assert "with 600 votes" in caught.value.where
    assert "snorkel_fast" in caught.value.fix
    assert label_messages(votes, rules, model="snorkel_fast", epochs=1).metrics["labeled"] == 1


@pytest.mark.parametrize("name", NAMES)
def test_confidence_is_calibrated_on_held_out_rows(name: Any, rules: Any) -> None:
    matrix, truth = generated(rows=4000, rules=4, k=3, seed=8)
    votes = from_matrix(matrix, rules).lazy()
    dev = pl.LazyFrame({"id": range(1000), "tag": [TAGS[t] for t in truth[:1000]]})
    done = label_messages(votes, rules, votes.head(1000), dev, model=name, epochs=200)
    unseen = done.labels.collect()[1000:].with_columns(truth=pl.Series(truth[1000:])).drop_nulls("tag")
    right = unseen["tag"].to_physical().to_numpy() == unseen["truth"].to_numpy()
    assert abs(unseen["confidence"].to_numpy().mean() - right.mean()) < 0.04
    assert done.metrics["dev_calibration_error"] < 0.08
    assert done.metrics["dev_calibration_error"] <= done.metrics["dev_calibration_error_before"] + 0.02


def test_calibration_corrects_an_overconfident_model_and_changes_no_label(rules: Any) -> None:
    matrix, truth = generated(rows=3000, rules=4, k=3, seed=8)
    votes = from_matrix(matrix, rules).lazy()
    dev = pl.LazyFrame({"id": range(1000), "tag": [TAGS[t] for t in truth[:1000]]})
    plain = label_messages(votes, rules, model="majority")
    fixed = label_messages(votes, rules, votes.head(1000), dev, model="majority")
    assert plain.labels.collect()["tag"].equals(fixed.labels.collect()["tag"])
    assert fixed.metrics["dev_calibration_error"] < fixed.metrics["dev_calibration_error_before"] / 2


def test_kommuna_without_dev_rows_is_above_majority_and_dawid_skene_on_rules_of_known_accuracy() -> None:
    matrix, truth = generated(rows=5000, rules=12, k=4, seed=2)
    votes = patterns(matrix, 4)
    covered = (matrix >= 0).any(axis=1)
    predicted = {
        name: (MODELS[name](SETTINGS).fit(votes).predict(matrix).argmax(axis=1) == truth)[covered].mean()
        for name in ("kommuna", "majority", "snorkel_fast")
    }
    assert predicted["kommuna"] > predicted["majority"] + 0.01
    assert predicted["kommuna"] >= predicted["snorkel_fast"] - 0.001


def test_a_rule_may_have_no_votes_on_dev_rows(rule_set: Any) -> None:
    rules = rule_set({"name": "a", "tag": "a", "any": ["x"]}, {"name": "b", "tag": "b", "any": ["x"]}, multi_label=True)
    votes = pl.DataFrame(
        {"id": range(60), "a": [1, None] * 30, "b": [None] * 50 + [1] * 10},
        schema={"id": pl.Int64, "a": pl.Int8, "b": pl.Int8},
    ).lazy()
    dev = pl.LazyFrame({"id": range(40), "tags": ["a", ""] * 20})
    table = label_messages(votes, rules, votes.head(40), dev, label="tags").labels.collect()
    assert [tags.to_list() for tags in table["tags"][:3:2]] == [["a"], ["a"]]
    assert np.isfinite(table.drop_nulls()["probabilities"].to_numpy()).all()
