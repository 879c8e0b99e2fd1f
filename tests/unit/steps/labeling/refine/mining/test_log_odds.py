"""Log-odds with an informative prior: equal to the formula of the paper."""

import math

import numpy as np
import pytest

from kommuna.steps.labeling.refine.mining import log_odds as module


def log_odds(there, elsewhere, background, **settings):
    """Computes the log-odds of all words from the counts of two groups (1 x c)."""
    share = (background + 1.0) / (background + 1.0).sum()
    return module.log_odds(there, there.sum(), elsewhere, elsewhere.sum(), share, **settings)


def test_the_result_equals_the_formula_of_the_paper():
    there, elsewhere, background = np.array([[8.0, 2.0]]), np.array([[3.0, 40.0]]), np.array([9, 89])
    prior = 50.0
    a = [prior * 10 / 100, prior * 90 / 100]
    n, m = 10.0, 43.0
    for w in (0, 1):
        y, x = there[0, w], elsewhere[0, w]
        delta = math.log((y + a[w]) / (n + prior - y - a[w])) - math.log((x + a[w]) / (m + prior - x - a[w]))
        z = delta / math.sqrt(1 / (y + a[w]) + 1 / (x + a[w]))
        assert log_odds(there, elsewhere, background, prior=prior)[0, w] == pytest.approx(z)


def test_a_rare_word_has_no_significant_difference():
    there, elsewhere = np.array([[1.0, 20.0, 0.0]]), np.array([[0.0, 0.0, 60.0]])
    once, often, _ = log_odds(there, elsewhere, np.array([5, 5, 5_000]))[0]
    assert often > 2.5 > 1.6 > once > 0


def test_swapped_groups_give_the_opposite():
    there, elsewhere, background = np.array([[8.0, 2.0]]), np.array([[3.0, 40.0]]), np.array([9, 89])
    assert log_odds(there, elsewhere, background) == pytest.approx(-log_odds(elsewhere, there, background))
