"""Explaining a prediction: the words' contributions sum to the score, and the decisive word comes first."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from kommuna.errors import SpecError
from kommuna.steps.training.explain import occluded_words, rules_with_votes
from kommuna.steps.training.tagger import LinearTexts, Tagger
from kommuna.steps.training.train import train_classifier


@pytest.fixture(scope="module")
def tagger(task) -> Tagger:
    return train_classifier(task.messages.lazy(), task.labels.lazy(), task.dev.lazy()).model


@pytest.mark.parametrize(
    "text", ["please my Loan, the card's PIN!", "Мой СЧЁТ и вклад…", "card card card", "?! loan", "never met words"]
)
def test_the_contributions_of_words_sum_to_the_score_of_a_linear_tagger(tagger: Tagger, text: str) -> None:
    scorer = tagger.scorer
    assert isinstance(scorer, LinearTexts)
    scores = scorer.scores(pl.DataFrame({"text": [text]}))[0] - scorer.model.intercept
    for column in range(3):
        wanted = float(scores[column] - scores.mean())
        assert sum(scorer.words(text, column).values()) == pytest.approx(wanted, abs=1e-4)


def test_the_decisive_word_comes_first_with_its_sign(tagger: Tagger) -> None:
    found = tagger.explain("please, my loan today")
    assert found.tag == "credit"
    assert found.words[0][0] == "loan"
    assert found.words[0][1] > 0
    against = tagger.explain("please, my loan today", tag="card")
    assert dict(against.words)["loan"] < 0
    assert against.confidence < found.confidence


def test_other_taggers_are_explained_by_occlusion(task) -> None:
    bayes = train_classifier(task.messages.lazy(), task.labels.lazy(), task.dev.lazy(), classifier="tfidf_cnb").model
    found = bayes.explain("please my deposit today")
    assert (found.tag, found.words[0][0]) == ("вклад", "deposit")


def test_an_occluded_word_changes_the_score_by_its_contribution() -> None:
    def score(texts: list[str]) -> np.ndarray:
        return np.array([2.0 * text.split().count("lost") - text.split().count("found") for text in texts], np.float32)

    assert occluded_words("Lost lost and found foundry", score) == {"lost": 4, "and": 0, "found": -1, "foundry": 0}
    assert occluded_words("…", score) == {}


def test_the_listed_rules_are_those_that_voted() -> None:
    votes = pl.DataFrame({"id": [1, 2], "a": ["card", None], "b": [None, None], "c": [0, 1]})
    assert rules_with_votes(votes, "id") == [(("a", "card"), ("c", "0")), (("c", "1"),)]


def test_an_unknown_tag_is_refused_with_the_nearest_name(tagger: Tagger) -> None:
    with pytest.raises(SpecError, match="no tag 'cart' \\(did you mean 'card'"):
        tagger.explain("my card", tag="cart")
