"""Properties of label models: without dev rows, they do not contradict the votes."""

from __future__ import annotations

from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.benchmarks._label_model_scores import scores
from tests.benchmarks._vote_grid import Point, draw
from tests.benchmarks._weak_data import Split
from tests.rigs.vote_patterns import patterns

from kommuna.spec import choices
from kommuna.steps.labeling.models.base import BaseLabelModel, DevRows
from kommuna.steps.labeling.models.dawid_skene import DawidSkene
from kommuna.steps.labeling.models.majority import Majority
from kommuna.steps.labeling.models.registry import MODELS, Settings
from kommuna.steps.labeling.votes.patterns import Codes

OURS = [name for name in get_args(choices.LabelModelName) if not name.startswith("snorkel")]
MARGIN = 0.02
Truth = NDArray[np.int64]


def model(name: Any) -> BaseLabelModel:
    return MODELS[name](Settings())


def one_sided(
    seed: int, *, rows: int, shares: tuple[float, ...], rules: tuple[int, ...], own: float = 0.3, other: float = 0.05
) -> tuple[Codes, Truth]:
    """Rules that vote for one tag: on a share `own` of its rows, and on `other` of the rest."""
    random = np.random.default_rng(seed)
    truth = random.choice(len(shares), rows, p=shares)
    tag = np.repeat(np.arange(len(shares)), rules)
    fires = random.random((rows, len(tag))) < np.where(truth[:, None] == tag, own, other)
    return np.where(fires, tag, -1).astype(np.int16), truth


def two_sided(
    seed: int, *, rows: int, rare: float, accuracies: tuple[float, ...], coverage: float
) -> tuple[Codes, Truth]:
    """Rules that vote for either of two tags, each with one accuracy on both."""
    random = np.random.default_rng(seed)
    truth = (random.random(rows) < rare).astype(np.int64)
    right = random.random((rows, len(accuracies))) < np.array(accuracies)
    votes = np.where(right, truth[:, None], 1 - truth[:, None])
    return np.where(random.random(votes.shape) < coverage, votes, -1).astype(np.int16), truth


def accuracy(name: Any, votes: Codes, truth: Truth, k: int, dev: int = 0) -> float:
    """On covered rows that are not dev rows; dev rows are the first."""
    known = DevRows(votes[:dev], truth[:dev]) if dev else None
    predicted = model(name).fit(patterns(votes, k), known).predict(votes).argmax(axis=1)
    judged = (votes >= 0).any(axis=1) & (np.arange(len(votes)) >= dev)
    return float((predicted == truth)[judged].mean())


small = st.integers(2, 4).flatmap(
    lambda k: st.integers(1, 6).flatmap(
        lambda m: st.tuples(
            st.just(k), st.lists(st.lists(st.integers(-1, k - 1), min_size=m, max_size=m), min_size=1, max_size=25)
        )
    )
)


@pytest.mark.parametrize("name", OURS)
@settings(deadline=None, max_examples=60)
@given(table=small, data=st.data())
def test_a_further_vote_for_a_tag_does_not_lower_it(name: Any, table: tuple[int, list[list[int]]], data: Any) -> None:
    k, rows = table
    matrix = np.array(rows, dtype=np.int16)
    fitted = model(name).fit(patterns(matrix, k))
    row = matrix[data.draw(st.integers(0, len(matrix) - 1))].copy()
    silent = np.flatnonzero(row < 0)
    if not len(silent):
        return
    rule = int(data.draw(st.sampled_from(silent.tolist())))
    tag = int(data.draw(st.integers(0, k - 1)))
    more = row.copy()
    more[rule] = tag
    before, after = fitted.predict(np.stack([row, more]))
    if (row >= 0).any():
        assert after[tag] >= before[tag] - 1e-9


@pytest.mark.parametrize("name", OURS)
@settings(deadline=None, max_examples=60)
@given(table=small)
def test_without_dev_rows_the_predicted_tag_has_a_vote(name: Any, table: tuple[int, list[list[int]]]) -> None:
    k, rows = table
    matrix = np.array(rows, dtype=np.int16)
    predicted = model(name).fit(patterns(matrix, k)).predict(matrix).argmax(axis=1)
    for row, tag in zip(matrix, predicted, strict=True):
        assert tag in row or (row < 0).all()


@pytest.mark.parametrize("name", OURS)
@settings(deadline=None, max_examples=30)
@given(table=small, seed=st.integers(0, 100))
def test_a_tag_without_votes_on_a_row_and_without_dev_rows_never_wins_it(
    name: Any, table: tuple[int, list[list[int]]], seed: int
) -> None:
    k, rows = table
    matrix = np.array(rows * 2, dtype=np.int16)
    truth = np.random.default_rng(seed).integers(0, k - 1, len(matrix))  # the last tag has no dev row
    predicted = model(name).fit(patterns(matrix, k), DevRows(matrix, truth)).predict(matrix).argmax(axis=1)
    for row, tag in zip(matrix, predicted, strict=True):
        assert tag != k - 1 or k - 1 in row or (row < 0).all()


@pytest.mark.parametrize("name", OURS)
def test_unanimous_votes_win_even_if_another_tag_has_ten_times_the_rules(name: Any) -> None:
    votes, truth = one_sided(0, rows=4000, shares=(0.9, 0.1), rules=(30, 3))
    predicted = model(name).fit(patterns(votes, 2)).predict(votes).argmax(axis=1)
    unanimous = ((votes == 0).any(axis=1) ^ (votes == 1).any(axis=1)) & (votes >= 0).any(axis=1)
    assert (predicted == votes.max(axis=1))[unanimous].all()
    assert (predicted == truth)[(votes >= 0).any(axis=1)].mean() > 0.9


@pytest.mark.parametrize("name", OURS)
def test_the_smallest_table_in_which_more_votes_made_a_tag_less_likely(name: Any) -> None:
    votes = np.array([[0, -1, 0, -1], [0, 0, 0, 0], [-1, -1, 0, -1], [0, -1, -1, -1], [-1, 0, 0, -1]], dtype=np.int16)
    predicted = model(name).fit(patterns(votes, 2)).predict(votes)
    assert (predicted.argmax(axis=1) == 0).all()
    assert predicted[1, 0] >= predicted[2, 0]
    one = np.array([[-1, -1, 1], [-1, 1, 1], [1, 1, 1]], dtype=np.int16)
    assert (model(name).fit(patterns(one, 2)).predict(one).argmax(axis=1) == 1).all()


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize(
    ("row", "tag"), [([0, 2, 2], 2), ([1, 1, 0], 1), ([0] * 9 + [1], 0), ([1] + [0] * 9, 0), ([2, 0, 2, 2, 1], 2)]
)
@pytest.mark.parametrize("times", [1, 40])
def test_rules_for_different_tags_that_fire_on_the_same_rows_are_counted_separately(
    name: Any, row: list[int], tag: int, times: int
) -> None:
    votes = np.array([row] * times, dtype=np.int16)
    assert (model(name).fit(patterns(votes, 3)).predict(votes).argmax(axis=1) == tag).all()
    among_others = np.full((300, len(row) + 2), -1, dtype=np.int16)
    among_others[:times, : len(row)] = row
    among_others[50:, len(row)] = np.arange(250) % 3
    predicted = model(name).fit(patterns(among_others, 3)).predict(among_others).argmax(axis=1)
    assert (predicted[:times] == tag).all()


@pytest.mark.parametrize("name", OURS)
def test_a_single_row_is_labeled_by_the_count_of_its_votes(name: Any) -> None:
    """Seven rules of accuracy .8 vote on it; many such tables."""
    random = np.random.default_rng(0)
    right = counted = 0
    for _ in range(60):
        truth = int(random.integers(0, 2))
        votes = np.where(random.random((1, 7)) < 0.8, truth, 1 - truth).astype(np.int16)
        right += int(model(name).fit(patterns(votes, 2)).predict(votes)[0].argmax() == truth)
        counted += int((votes == truth).sum() > 3)
    assert right == counted


@pytest.mark.parametrize("name", OURS)
def test_a_rule_that_is_worse_than_chance_on_dev_counts_against_its_tag(name: Any) -> None:
    if not model(name).learns_from_dev:
        pytest.skip("it learns nothing from dev rows")
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 600)
    good = np.where(random.random((600, 2)) < 0.75, truth[:, None], -1)
    bad = np.where(random.random(600) < 0.5, 1 - truth, -1)[:, None]
    votes = np.hstack([good, bad]).astype(np.int16)
    predicted = model(name).fit(patterns(votes, 2), DevRows(votes[:200], truth[:200])).predict(votes)
    alone = (votes[:, :2] < 0).all(axis=1) & (votes[:, 2] >= 0)
    assert (predicted.argmax(axis=1) == truth)[alone].mean() > 0.9


GRID = [
    *(
        pytest.param(*one_sided(seed, rows=3000, shares=(1 - rare, rare), rules=rules), id=f"one-{rare}-{rules}-{seed}")
        for rare in (0.03, 0.1, 0.5)
        for rules in ((4, 1), (30, 3), (16, 17), (3, 30))
        for seed in (0, 1)
    ),
    *(
        pytest.param(
            *two_sided(seed, rows=3000, rare=rare, accuracies=tuple(np.linspace(0.6, 0.9, m)), coverage=0.5),
            id=f"two-{rare}-{m}-{seed}",
        )
        for rare in (0.03, 0.1, 0.5)
        for m in (5, 33)
        for seed in (0, 1)
    ),
]


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize(("votes", "truth"), GRID)
def test_without_dev_rows_no_model_is_far_below_the_majority_vote(name: Any, votes: Codes, truth: Truth) -> None:
    assert accuracy(name, votes, truth, 2) >= accuracy("majority", votes, truth, 2) - MARGIN


@pytest.mark.parametrize("dev", [10, 20, 100, 1000])
@pytest.mark.parametrize(("votes", "truth"), GRID[::2])
def test_the_default_model_is_not_far_below_the_majority_vote_with_dev_rows(
    dev: int, votes: Codes, truth: Truth
) -> None:
    assert accuracy("kommuna", votes, truth, 2, dev) >= accuracy("majority", votes, truth, 2, dev) - MARGIN


@pytest.mark.slow
@pytest.mark.parametrize("dev", [20, 100])
def test_dev_rows_do_not_make_the_default_model_worse(dev: int) -> None:
    """Means over draws: of one draw, chance may have it either way."""
    found = []
    for seed in range(6):
        for rare, rules in ((0.1, (30, 3)), (0.5, (3, 3)), (0.3, (4, 2))):
            votes, truth = one_sided(seed, rows=2000, shares=(1 - rare, rare), rules=rules)
            none = model("kommuna").fit(patterns(votes, 2)).predict(votes).argmax(axis=1)
            judged = (votes >= 0).any(axis=1) & (np.arange(len(votes)) >= dev)
            found.append(accuracy("kommuna", votes, truth, 2, dev) - (none == truth)[judged].mean())
    assert np.mean(found) > -0.002


def test_votes_of_a_few_experts_on_a_rare_tag_are_predicted_as_in_the_publication() -> None:
    same = [two_sided(s, rows=3000, rare=0.1, accuracies=(0.8,) * 5, coverage=1.0) for s in range(4)]
    expert = [two_sided(s, rows=3000, rare=0.1, accuracies=(0.95, 0.6, 0.6, 0.6, 0.6), coverage=1.0) for s in range(4)]
    for tables, least in ((same, 0.955), (expert, 0.92)):
        ours, published, counted = [], [], []
        for votes, truth in tables:
            for found, made in (
                (ours, DawidSkene()),
                (published, DawidSkene(iterations=100, prior_rows=0)),
                (counted, Majority()),
            ):
                found.append((made.fit(patterns(votes, 2)).predict(votes).argmax(axis=1) == truth).mean())
        assert np.mean(ours) > np.mean(counted) + 0.01
        assert np.mean(ours) > np.mean(published) - 0.02
        assert np.mean(ours) > least


@pytest.mark.parametrize("name", ["kommuna", "dawid_skene"])
@pytest.mark.parametrize("spam", [0.4, 0.5, 0.7])
def test_a_catch_all_rule_does_not_outvote_three_rules_that_are_right(name: Any, spam: float) -> None:
    votes, truth = one_sided(0, rows=3000, shares=(1 - spam, spam), rules=(0, 3), own=0.4, other=0.08)
    with_catch_all = np.hstack([np.zeros((3000, 1), dtype=np.int16), votes])
    predicted = model(name).fit(patterns(with_catch_all, 2)).predict(with_catch_all).argmax(axis=1)
    assert (predicted[(votes == 1).all(axis=1)] == 1).all()
    ties_to_the_first = np.where((votes == 1).sum(axis=1) > 1, 1, 0)
    assert (predicted == truth).mean() > (ties_to_the_first == truth).mean() - MARGIN


@pytest.mark.parametrize("shape", [0.5, 2.0])
def test_the_tag_with_most_votes_wins_where_messages_differ_in_length(shape: float) -> None:
    """Long messages have more of all words: rules are not independent given the tag."""
    random = np.random.default_rng(0)
    truth = (random.random(4000) < 0.05).astype(np.int64)
    tag = np.repeat([0, 1], 10)
    length = random.gamma(shape, 1 / shape, 4000)[:, None]
    fires = random.random((4000, 20)) < np.where(truth[:, None] == tag, 0.2, 0.05) * length
    votes = np.where(fires, tag, -1).astype(np.int16)
    predicted = model("kommuna").fit(patterns(votes, 2)).predict(votes).argmax(axis=1)
    first, second = (votes == 0).sum(axis=1), (votes == 1).sum(axis=1)
    differ = first != second
    assert (predicted == (second > first))[differ].mean() > 0.999


@pytest.mark.parametrize(("rows", "rules"), [(500, 1000), (100, 1000)])
def test_many_rules_on_few_rows_are_not_worse_than_counting_votes(rows: int, rules: int) -> None:
    votes, truth = one_sided(
        0, rows=rows, shares=(0.8, 0.2), rules=(rules // 2, rules - rules // 2), own=0.1, other=0.04
    )
    assert accuracy("kommuna", votes, truth, 2) >= accuracy("majority", votes, truth, 2)


@pytest.mark.parametrize("share", ["proportional", "equal", "adverse"])
@pytest.mark.parametrize(("tags", "rules"), [(20, 33), (50, 100), (50, 200)])
def test_many_tags_with_few_rules_each_are_about_as_good_as_counted(share: Any, tags: int, rules: int) -> None:
    """Votes alone do not tell a tag's share from its rules' rates. Ties are broken at random, as in a count of votes."""
    point = Point(tags, 0.1 / tags, "one-sided", share, rules, copies=False, rows=2000)
    found = []
    for seed in range(3):
        drawn = draw(point, seed=seed)
        scored = scores(drawn.votes, tags, Split(drawn.votes, drawn.truth), None, ("kommuna", "majority"))
        found.append(scored["kommuna"].accuracy - scored["majority"].accuracy)
    assert np.mean(found) > -0.005


@pytest.mark.parametrize("rows", [2, 5, 20])
def test_small_tables_are_labeled_about_as_well_as_by_counting_votes(rows: int) -> None:
    found = []
    for seed in range(40):
        random = np.random.default_rng(seed)
        truth = random.integers(0, 2, rows)
        votes = np.where(random.random((rows, 7)) < 0.7, truth[:, None], 1 - truth[:, None]).astype(np.int16)
        found.append(accuracy("kommuna", votes, truth, 2) - accuracy("majority", votes, truth, 2))
    assert np.mean(found) > -0.04


@pytest.mark.parametrize("name", OURS)
def test_votes_against_a_tag_do_not_assign_a_tag_without_rules(name: Any) -> None:
    a, not_a, b = 0, 3, 1  # tag 2 has no rule
    rows = [[a, not_a, -1]] * 3 + [[a, -1, -1]] * 10 + [[-1, not_a, -1]] * 5 + [[-1, -1, b]] * 40
    votes = np.array(rows, dtype=np.int16)
    predicted = model(name).fit(patterns(votes, 3)).predict(votes).argmax(axis=1)
    assert 2 not in predicted
    assert (predicted[13:18] == b).all()  # it is not a, and of the others rules know b alone
