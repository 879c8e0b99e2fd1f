"""The comparison with the champion, tag by tag and on the tags that both know, by known answers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as peer

from kommuna.steps.training.evaluation import against
from kommuna.steps.training.evaluation.scores import TagScore, resampled

TAGS = ("card", "fees", "new")


def one_hot(tags: list[int]) -> np.ndarray:
    return np.eye(len(TAGS), dtype=bool)[tags]


def per_tag(truth: np.ndarray, chosen: np.ndarray) -> tuple[TagScore, ...]:
    found = []
    for j, tag in enumerate(TAGS):
        p, r, f1, _ = peer.precision_recall_fscore_support(truth[:, j], chosen[:, j], average="binary", zero_division=0)
        found.append(TagScore(tag=tag, rows=int(truth[:, j].sum()), precision=p, recall=r, f1=f1))
    return tuple(found)


def compared(
    truth: np.ndarray, chosen: np.ndarray, champion: np.ndarray, known: tuple[str, ...] = TAGS
) -> tuple[TagScore, ...]:
    return against.with_champion(per_tag(truth, chosen), truth, champion, resampled(truth, chosen), known=known)


def test_a_tag_that_falls_far_on_many_rows_has_fallen_and_the_others_have_not() -> None:
    truth = one_hot([0] * 300 + [1] * 40)
    champion = one_hot([0] * 300 + [1] * 32 + [2] * 8)
    model = one_hot([0] * 300 + [1] * 16 + [2] * 24)
    card, fees, new = compared(truth, model, champion)
    assert fees.has_fallen
    assert fees.champion_f1 == pytest.approx(2 * 32 / 72)
    assert fees.fall_low < fees.champion_f1 - fees.f1 < fees.fall_high
    assert "tag 'fees' falls from 0.889 to 0.571 on 40 gold rows" in fees.fall
    assert not card.has_fallen
    assert new.champion_f1 is None  # gold has no such row


def test_a_fall_on_few_rows_is_not_judged() -> None:
    truth = one_hot([0] * 300 + [1] * 15)
    found = compared(truth, one_hot([0] * 315), one_hot([0] * 300 + [1] * 15))
    assert found[1].fall_low is None
    assert found[1].champion_f1 == 1.0


def test_equal_models_rarely_show_a_fall_of_any_of_many_tags() -> None:
    """Two models of the same quality, whose mistakes are drawn separately: 40 tags of 30 rows, 30 times."""
    random = np.random.default_rng(0)
    alarms = 0
    for _ in range(30):
        tags = np.repeat(np.arange(40), 30)
        draws = [np.where(random.random(1200) < 0.8, tags, random.integers(0, 40, 1200)) for _ in range(2)]
        truth, model, champion = (np.eye(40, dtype=bool)[one] for one in (tags, *draws))
        names = tuple(str(j) for j in range(40))
        f1 = peer.f1_score(tags, draws[0], average=None)
        scores = tuple(
            TagScore(tag=n, rows=30, precision=0, recall=0, f1=float(f)) for n, f in zip(names, f1, strict=True)
        )
        found = against.with_champion(scores, truth, champion, resampled(truth, model), known=names)
        alarms += any(tag.has_fallen for tag in found)
    assert alarms <= 4  # one-sided 2.5 %: 0.75 are expected


def test_a_champion_that_lacks_a_tag_is_compared_without_its_rows() -> None:
    truth = one_hot([0, 0, 1, 1, 2, 2])
    model, champion = one_hot([0, 0, 1, 0, 2, 0]), one_hot([0, 1, 1, 0, 0, 1])
    found = against.champion(truth, model, champion, tags=TAGS, known=("card", "fees"), several=False)
    (versus,) = found.comparisons
    assert (versus.without, versus.rows) == (("new",), 4)
    assert found.metrics["champion.accuracy"] == 0.5
    assert found.metrics["shared.accuracy"] == 0.75
    assert found.metrics["champion.f1_macro"] == pytest.approx(
        peer.f1_score([0, 0, 1, 1], [0, 1, 1, 0], average="macro")
    )
    assert versus.accuracy == 0.25


def test_with_several_tags_only_the_tag_is_left_out() -> None:
    truth = np.array([[1, 0, 1], [0, 1, 0], [0, 0, 1]], dtype=bool)
    found = against.champion(truth, truth, truth & [True, True, False], tags=TAGS, known=("card", "fees"), several=True)
    assert found.comparisons[0].rows == 3
    assert found.metrics["champion.accuracy"] == 1.0


def test_a_champion_that_knows_no_tag_of_gold_is_not_compared() -> None:
    truth = one_hot([2, 2])
    assert against.champion(truth, truth, truth, tags=TAGS, known=("card",), several=False) == against.Against({}, ())
