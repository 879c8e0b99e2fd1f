"""Boosted trees against scikit-learn's, which bins by sorting each column once per bin."""

from __future__ import annotations

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from kommuna.steps.training.fit.boosted_trees import BoostedTrees


def test_probabilities_are_those_of_scikit_learn() -> None:
    random = np.random.default_rng(0)
    rows = np.stack([random.normal(size=2000), random.exponential(size=2000).round(2), random.integers(0, 5, 2000)]).T
    rows[random.random((2000, 3)) < 0.1] = np.nan
    classes = ((np.nan_to_num(rows[:, 0]) > 0.3) ^ (rows[:, 2] == 3)).astype(int)
    weights = random.choice([0.0, 0.05, 0.3, 1.0], 2000)
    is_category = [False, False, True]
    ours = BoostedTrees(is_category, 0).fit(rows[:1500], classes[:1500], sample_weight=weights[:1500])
    theirs = HistGradientBoostingClassifier(early_stopping=False, categorical_features=is_category, random_state=0)
    theirs.fit(rows[:1500], classes[:1500], sample_weight=weights[:1500])
    assert np.abs(ours.predict_proba(rows) - theirs.predict_proba(rows)).max() < 1e-9
