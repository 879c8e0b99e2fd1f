"""Label models against known answers and the reference library."""

from pathlib import Path

import numpy as np
import pytest
from tests.rigs.dawid_skene import DawidSkeneReference
from tests.rigs.vote_patterns import patterns

from kommuna.errors import LimitExceeded, RulesError
from kommuna.steps.labeling.models.base import BaseLabelModel, DevRows
from kommuna.steps.labeling.models.dawid_skene import DawidSkene
from kommuna.steps.labeling.models.majority import Majority
from kommuna.steps.labeling.models.outcomes import outcomes
from kommuna.steps.labeling.models.snorkel.library import SnorkelModel
from kommuna.steps.labeling.votes.patterns import CastVotes, Codes


def right(model: BaseLabelModel, matrix: Codes, truth: np.ndarray) -> float:
    covered = (matrix >= 0).any(axis=1)
    return float((model.predict(matrix).argmax(axis=1) == truth)[covered].mean())


def generated(
    *, rows: int, rules: int, k: int, seed: int, low: float = 0.35, high: float = 0.9
) -> tuple[Codes, np.ndarray, np.ndarray]:
    """Votes of rules of known accuracy, independent given the tag."""
    random = np.random.default_rng(seed)
    truth = random.integers(0, k, rows)
    accuracy = random.uniform(low, high, rules)
    wrong = (truth[:, None] + random.integers(1, k, (rows, rules))) % k
    votes = np.where(random.random((rows, rules)) < accuracy, truth[:, None], wrong)
    return np.where(random.random((rows, rules)) < 0.5, votes, -1).astype(np.int16), truth, accuracy


@pytest.fixture(scope="session")
def crowd(shared_data: Path) -> tuple[Codes, np.ndarray]:
    """83 workers' answers on 1,000 items, and the truth."""
    folder = shared_data / "crowd_barzan"
    gold = dict(line.split() for line in (folder / "evaluation.txt").read_text().splitlines())
    answers = [line.split() for line in (folder / "labels.txt").read_text().splitlines()]
    items = {item: i for i, item in enumerate(sorted(gold, key=int))}
    workers = {worker: j for j, worker in enumerate(dict.fromkeys(worker for worker, _, _ in answers))}
    matrix = np.full((len(items), len(workers)), -1, dtype=np.int16)
    for worker, item, answer in answers:
        matrix[items[item], workers[worker]] = int(answer)
    return matrix, np.array([int(gold[item]) for item in items])


def test_majority_equals_that_of_snorkel_without_ties() -> None:
    from snorkel.labeling.model import MajorityLabelVoter

    matrix, _, _ = generated(rows=500, rules=7, k=4, seed=1)
    ours = Majority().fit(patterns(matrix, 4)).predict(matrix)
    theirs = MajorityLabelVoter(cardinality=4).predict_proba(matrix.astype(int))
    clear = (np.sort(theirs, axis=1)[:, -1] > np.sort(theirs, axis=1)[:, -2]) & (matrix >= 0).any(axis=1)
    assert clear.sum() > 200
    assert np.array_equal(ours.argmax(axis=1)[clear], theirs.argmax(axis=1)[clear])


def test_majority_breaks_ties_by_the_order_of_tags_and_counts_votes_against() -> None:
    k = 3
    rows = np.array([[2, 1, -1], [1, 1, k + 1], [k + 0, -1, -1], [0, 2, k + 0]], dtype=np.int16)
    probabilities = Majority().fit(patterns(rows, k)).predict(rows)
    assert probabilities.argmax(axis=1).tolist() == [1, 1, 1, 2]
    assert np.allclose(probabilities[2], [0, 0.5, 0.5])  # it is not tag 0: the others are equal
    assert np.allclose(probabilities.sum(axis=1), 1)


def test_dawid_skene_beats_majority_on_crowd_answers(crowd: tuple[Codes, np.ndarray]) -> None:
    matrix, truth = crowd
    votes = patterns(matrix, 2)
    majority = right(Majority().fit(votes), matrix, truth)
    assert right(DawidSkene(iterations=50).fit(votes), matrix, truth) > majority + 0.01
    assert right(DawidSkene().fit(votes), matrix, truth) > majority + 0.01
    dev = DevRows(matrix[:100], truth[:100])
    unseen = right(Majority().fit(votes), matrix[100:], truth[100:])
    assert right(DawidSkene().fit(votes, dev), matrix[100:], truth[100:]) > unseen + 0.005


def plain_dawid_skene(matrix: Codes, k: int, steps: int) -> np.ndarray:
    """Dawid and Skene (1979), formulas 2.3 to 2.5, in the plainest loops; starts from the votes' shares."""
    n, m = matrix.shape
    probability = np.array([[np.mean(row[row >= 0] == y) for y in range(k)] for row in matrix])
    for _ in range(steps):
        prior = probability.mean(axis=0)
        confusion = np.zeros((m, k, k))
        for j in range(m):
            for y in range(k):
                for v in range(k):
                    confusion[j, y, v] = probability[matrix[:, j] == v, y].sum()
                confusion[j, y] /= max(confusion[j, y].sum(), 1e-12)
        for i in range(n):
            for y in range(k):
                probability[i, y] = prior[y] * np.prod(
                    [confusion[j, y, matrix[i, j]] for j in range(m) if matrix[i, j] >= 0]
                )
            probability[i] /= probability[i].sum()
    return probability


def test_dawid_skene_without_a_prior_is_the_published_algorithm() -> None:
    matrix, truth, _ = generated(rows=1500, rules=8, k=3, seed=2)
    covered = (matrix >= 0).any(axis=1)
    matrix, truth = matrix[covered], truth[covered]
    ours = DawidSkene(iterations=40, prior_rows=0).fit(patterns(matrix, 3)).predict(matrix)
    assert np.allclose(ours, plain_dawid_skene(matrix, 3, 40), atol=1e-9)
    assert (ours.argmax(axis=1) == truth).mean() > right(Majority().fit(patterns(matrix, 3)), matrix, truth) + 0.02


def test_dawid_skene_without_a_prior_equals_another_implementation(crowd: tuple[Codes, np.ndarray]) -> None:
    rare = np.random.default_rng(0).random(2000) < 0.1
    wrong = np.random.default_rng(1).random((2000, 5)) > np.array([0.95, 0.6, 0.6, 0.6, 0.6])
    expert = (rare[:, None] ^ wrong).astype(np.int16)
    for matrix, truth in (crowd, (expert, rare.astype(np.int64))):
        ours = DawidSkene(iterations=100, prior_rows=0).fit(patterns(matrix, 2)).predict(matrix)
        theirs = DawidSkeneReference().fit(matrix, 2).predict(matrix)
        assert (ours.argmax(axis=1) == theirs.argmax(axis=1)).mean() > 0.99
        assert abs((ours.argmax(axis=1) == truth).mean() - (theirs.argmax(axis=1) == truth).mean()) < 0.005


def test_rules_that_vote_on_the_same_rows_count_as_one() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 400)
    good = np.where(random.random(400) < 0.9, truth, -1)[:, None]
    noise = np.where(random.random(400) < 0.5, 1, -1)[:, None]
    once = np.hstack([good, noise]).astype(np.int16)
    often = np.hstack([good, *[noise] * 20]).astype(np.int16)
    dev = slice(0, 50)
    one = DawidSkene().fit(patterns(once, 2), DevRows(once[dev], truth[dev])).predict(once)
    many = DawidSkene().fit(patterns(often, 2), DevRows(often[dev], truth[dev])).predict(often)
    assert np.allclose(one, many, atol=1e-9)


def test_outcomes_distinguish_one_sided_rules_from_others() -> None:
    votes = np.array([[0, 1, 0, -1], [-1, 0, -1, 4], [0, 1, 0, -1]], dtype=np.int16)
    found = outcomes(votes, 3)
    assert found.one_sided.tolist() == [True, False, False, True, True]
    assert found.rule.tolist() == [0, 1, 1, 2, 3]
    assert found.owners.tolist() == [
        [True, False, False],
        [True, False, False],
        [False, True, False],
        [True, False, False],
        [True, False, True],
    ]
    assert found.indicators(CastVotes.of(votes)).toarray().tolist() == [
        [1, 0, 1, 1, 0],
        [0, 1, 0, 0, 1],
        [1, 0, 1, 1, 0],
    ]


def test_rules_that_often_vote_on_the_same_rows_observe_one_event() -> None:
    fires = np.array([[0, 1, 1], [0, 1, -1], [0, 1, 1], [-1, -1, 1], [0, 1, -1], [-1, -1, -1]] * 5, dtype=np.int16)
    context = np.arange(30)[:, None] % 4 - 1
    votes = np.hstack([fires, context]).astype(np.int16)
    found = outcomes(votes, 3)
    assert found.event[:3].tolist() == [0, 0, 2]
    assert found.alike[:3].tolist() == [2, 2, 1]
    assert found.event_owners[0].tolist() == [True, True, False]
    assert outcomes(votes[:6], 3).alike.tolist() == [1] * len(outcomes(votes[:6], 3))  # six rows are too few to tell


def test_a_row_without_votes_has_finite_probabilities_in_each_model() -> None:
    matrix = np.array([[0, 1, 0], [-1, -1, -1], [1, 1, -1]], dtype=np.int16)
    for model in (Majority(), DawidSkene()):
        probabilities = model.fit(patterns(matrix, 2)).predict(matrix)
        assert np.isfinite(probabilities).all()
        assert np.allclose(probabilities.sum(axis=1), 1)


def test_dawid_skene_handles_tables_without_votes_and_votes_that_were_not_fitted() -> None:
    silent = np.full((3, 2), -1, dtype=np.int16)
    assert np.isfinite(DawidSkene().fit(patterns(silent, 2)).predict(silent)).all()
    model = DawidSkene().fit(patterns(np.array([[0, -1], [-1, 1]], dtype=np.int16), 2))
    assert np.isfinite(model.predict(np.array([[1, 0]], dtype=np.int16))).all()


@pytest.mark.torch
def test_probabilities_of_snorkel_are_those_of_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    from snorkel.labeling.model import LabelModel as Library

    matrix, truth, _ = generated(rows=400, rules=6, k=3, seed=3)
    ours = SnorkelModel(epochs=50, seed=7).fit(patterns(matrix, 3))
    library = Library(cardinality=3, verbose=False)
    library.fit(matrix.astype(int), n_epochs=50, seed=7, progress_bar=False)
    assert np.allclose(ours.predict(matrix), library.predict_proba(matrix.astype(int)), atol=1e-9)
    assert right(ours, matrix, truth) > 0.6


@pytest.mark.torch
def test_snorkel_refuses_unsupported_votes() -> None:
    with pytest.raises(RulesError, match="'snorkel' needs at least three rules, but there are 2"):
        SnorkelModel().fit(patterns(np.zeros((4, 2), dtype=np.int16), 2))
    with pytest.raises(RulesError, match="does not support votes against a tag, such as those of rule 'r1'"):
        SnorkelModel().fit(patterns(np.array([[0, 3, 1]], dtype=np.int16), 2))
    with pytest.raises(LimitExceeded, match=r"needs 0\.0 GiB for 1,000 rows x 5 rules x 4 tags, more than 100k"):
        SnorkelModel(memory="100k").fit(patterns(generated(rows=1000, rules=5, k=4, seed=0)[0], 4))


def test_without_torch_the_extra_is_named() -> None:
    import subprocess
    import sys
    from textwrap import dedent

    code = dedent("""
        import sys

        class NoTorch:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] == "torch":
                    raise ModuleNotFoundError("No module named 'torch'", name="torch")

        sys.meta_path.insert(0, NoTorch())
        import numpy as np
        from kommuna.errors import NotInstalled
        from kommuna.steps.labeling.models.snorkel.library import SnorkelModel
        from kommuna.steps.labeling.votes.patterns import VotePatterns, distinct
        votes, counts, line = distinct([np.array([0, 1], dtype=np.int16)] * 3)
        try:
            SnorkelModel().fit(VotePatterns(votes, counts, line, ("a", "b"), ("x", "y", "z")))
        except NotInstalled as error:
            print(error)
    """)
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "the label model 'snorkel' needs torch, which is not installed" in out
    assert "kommuna[torch]" in out
