"""`snorkel_fast`: its probabilities equal those of the library."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from tests.rigs.vote_patterns import patterns

from kommuna.errors import RulesError
from kommuna.steps.labeling.models.base import DevRows
from kommuna.steps.labeling.models.snorkel import sparse as snorkel_fast
from kommuna.steps.labeling.models.snorkel.sparse import SnorkelFast
from kommuna.steps.labeling.votes.patterns import Codes


def generated(*, rows: int, rules: int, k: int, seed: int, one_class: bool, coverage: float = 0.4) -> Codes:
    """Votes of rules of accuracy .4 to .9; with `one_class` rule j fires for tag j mod k alone, else it votes any."""
    random = np.random.default_rng(seed)
    truth = random.choice(k, rows, p=random.dirichlet(np.full(k, 5.0)))
    accuracy = random.uniform(0.4, 0.9, rules)
    if one_class:
        tag = np.arange(rules) % k
        odds = np.where(truth[:, None] == tag, coverage, coverage * (1 - accuracy) / (k - 1) * 2)
        return np.where(random.random((rows, rules)) < odds, tag, -1).astype(np.int16)
    wrong = (truth[:, None] + random.integers(1, k, (rows, rules))) % k
    votes = np.where(random.random((rows, rules)) < accuracy, truth[:, None], wrong)
    return np.where(random.random((rows, rules)) < coverage, votes, -1).astype(np.int16)


@dataclass
class Compared:
    """n x k probabilities of this model and of the library, as they are (float32) and computed in float64."""

    ours: np.ndarray
    library: np.ndarray
    exact_ours: np.ndarray
    exact_library: np.ndarray

    def is_the_librarys(self) -> bool:
        """Equal where nothing is rounded. As they are, both round in an order that the CPU's kernels choose: then ours
        is within 1e-5 of the exact answer and of the library's, beside the library's own rounding."""
        rounding = np.abs(self.library - self.exact_library).max()
        return bool(
            np.abs(self.exact_ours - self.exact_library).max() < 1e-9
            and np.abs(self.ours - self.exact_library).max() < 1e-5 + 2 * rounding
            and np.abs(self.ours - self.library).max() < 1e-5 + 2 * rounding
            and rounding < 1e-3
        )


Compare = Callable[..., Compared]


@pytest.fixture
def compare(monkeypatch: pytest.MonkeyPatch) -> Compare:
    """Fits both models, each in float32 and in float64."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)  # of matrices this small, threads only wait for each other
    from snorkel.labeling.model import LabelModel

    def library(matrix: Codes, k: int, epochs: int, seed: int, balance: list[float] | None) -> np.ndarray:
        model = LabelModel(cardinality=k, verbose=False)
        model.fit(matrix.astype(int), n_epochs=epochs, seed=seed, class_balance=balance, progress_bar=False)
        return np.asarray(model.predict_proba(matrix.astype(int)))

    def compared(matrix: Codes, k: int, *, epochs: int, seed: int, truth: np.ndarray | None = None) -> Compared:
        balance, dev = None, None
        if truth is not None:
            balance = ((np.bincount(truth, minlength=k) + 1) / (len(truth) + k)).tolist()
            dev = DevRows(matrix[: len(truth)], truth)

        def ours() -> np.ndarray:
            return SnorkelFast(epochs=epochs, seed=seed).fit(patterns(matrix, k), dev).predict(matrix)

        as_they_are = ours(), library(matrix, k, epochs, seed, balance)
        with monkeypatch.context() as patch:
            patch.setattr(snorkel_fast, "_KEPT", np.float64)
            patch.setattr(torch.Tensor, "float", torch.Tensor.double)
            torch.set_default_dtype(torch.float64)
            try:
                return Compared(*as_they_are, ours(), library(matrix, k, epochs, seed, balance))
            finally:
                torch.set_default_dtype(torch.float32)

    return compared


SIZES = [(400, 5, 2), (2000, 12, 4), (3000, 30, 10)]


@pytest.mark.slow
@pytest.mark.torch
@pytest.mark.parametrize("one_class", [True, False])
@pytest.mark.parametrize(("rows", "rules", "k"), SIZES)
@pytest.mark.parametrize("seed", [0, 7, 123])
def test_probabilities_equal_those_of_the_library(
    rows: int, rules: int, k: int, seed: int, one_class: bool, compare: Compare
) -> None:
    matrix = generated(rows=rows, rules=rules, k=k, seed=seed, one_class=one_class)
    assert compare(matrix, k, epochs=500, seed=seed).is_the_librarys()


@pytest.mark.torch
@pytest.mark.parametrize("one_class", [False, True])
def test_probabilities_are_equal_with_the_class_balance_of_dev_rows(one_class: bool, compare: Compare) -> None:
    k = 4
    matrix = generated(rows=2000, rules=12, k=k, seed=5, one_class=one_class)
    truth = np.random.default_rng(0).choice(k, 100, p=[0.5, 0.3, 0.1, 0.1])
    assert compare(matrix, k, epochs=100, seed=3, truth=truth).is_the_librarys()


@pytest.mark.torch
def test_probabilities_are_equal_with_unused_rules_unused_classes_and_mixed_votes(compare: Compare) -> None:
    k = 6
    matrix = generated(rows=1500, rules=9, k=3, seed=2, one_class=False)  # nobody votes for tags 3 to 5
    matrix[:, 4] = -1
    matrix[:, 5] = np.where(matrix[:, 5] >= 0, 1, -1)
    matrix[:300] = -1
    matrix[300:600, :3] = -1
    assert compare(matrix, k, epochs=200, seed=1).is_the_librarys()


@pytest.mark.torch
@pytest.mark.parametrize("wrong", ["_RATE", "_MOMENTUM", "_PRECISION"])
def test_a_difference_of_a_ten_thousandth_is_detected(
    wrong: str, compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = generated(rows=2000, rules=12, k=4, seed=5, one_class=False)
    monkeypatch.setattr(snorkel_fast, wrong, getattr(snorkel_fast, wrong) * 1.0001)
    assert not compare(matrix, 4, epochs=100, seed=3).is_the_librarys()


@pytest.mark.torch
def test_a_vote_that_was_not_fitted_has_the_same_effect_as_in_the_library() -> None:
    from snorkel.labeling.model import LabelModel

    matrix = generated(rows=500, rules=6, k=3, seed=4, one_class=True)
    new_votes = np.array([[2, 1, -1, -1, 0, -1], [1, -1, -1, -1, -1, -1]], dtype=np.int16)
    reference = LabelModel(cardinality=3, verbose=False)
    reference.fit(matrix.astype(int), n_epochs=100, seed=0, progress_bar=False)
    ours = SnorkelFast(epochs=100).fit(patterns(matrix, 3)).predict(new_votes)
    assert np.abs(ours - reference.predict_proba(new_votes.astype(int))).max() < 1e-6


def test_many_votes_on_one_row_do_not_underflow() -> None:
    matrix = np.tile(generated(rows=200, rules=10, k=3, seed=0, one_class=False, coverage=1.0), (1, 40))
    probabilities = SnorkelFast(epochs=5).fit(patterns(matrix, 3)).predict(matrix)
    assert np.isfinite(probabilities).all()
    assert np.allclose(probabilities.sum(axis=1), 1)


def test_it_refuses_what_the_model_of_snorkel_does_not_support() -> None:
    with pytest.raises(RulesError, match="'snorkel_fast' needs at least three rules, but there are 2"):
        SnorkelFast().fit(patterns(np.zeros((4, 2), dtype=np.int16), 2))
    with pytest.raises(RulesError, match="does not support votes against a tag, such as those of rule 'r1'"):
        SnorkelFast().fit(patterns(np.array([[0, 3, 1]], dtype=np.int16), 2))


def test_it_needs_no_torch() -> None:
    code = (
        "import sys, numpy as np\n"
        "from kommuna.steps.labeling.models.snorkel.sparse import SnorkelFast\n"
        "from kommuna.steps.labeling.votes.patterns import VotePatterns, distinct\n"
        "votes, counts, line = distinct([np.array([0, 1, 1], dtype=np.int16)] * 3)\n"
        "SnorkelFast().fit(VotePatterns(votes, counts, line, ('a', 'b'), ('x', 'y', 'z'))).predict(votes)\n"
        "print(sorted(m for m in ('torch', 'snorkel') if m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
