from __future__ import annotations

import random

import numpy as np
import polars as pl
import pytest

from kommuna.demo.messages import OPERATORS, RIGHT, message_blocks
from kommuna.demo.noise import typos
from kommuna.demo.phrases import PII, expand, phrases, topics
from kommuna.demo.write import DemoData


@pytest.fixture(scope="module")
def made() -> pl.DataFrame:
    return pl.concat(message_blocks(60_000, seed=1, stream=0, first_id=1))


def test_topics_follow_zipfs_law(truth: pl.DataFrame) -> None:
    counts = truth["tag"].value_counts(sort=True)["count"].to_numpy()
    assert len(counts) == len(topics()) == 16
    assert counts[0] > 5 * counts[-1]
    slope = np.polyfit(np.log(np.arange(1, 17)), np.log(counts), 1)[0]
    assert -1.0 < slope < -0.7


def test_operators_are_right_four_times_of_five_each_at_their_own_rate(made: pl.DataFrame) -> None:
    seen = made.drop_nulls("operator")
    right = (
        seen.group_by("operator").agg((pl.col("tag") == pl.col("operator_tag")).mean().alias("right")).sort("operator")
    )
    assert 0.78 < float((seen["tag"] == seen["operator_tag"]).mean()) < 0.82  # type: ignore[arg-type]
    assert right["operator"].to_list() == list(OPERATORS)
    assert np.abs(right["right"].to_numpy() - RIGHT).max() < 0.03
    assert np.isclose(RIGHT.mean(), 0.8)


def test_operators_of_the_written_files_are_right_four_times_of_five(demo: DemoData, truth: pl.DataFrame) -> None:
    for name in ("messages.csv", "dev.csv", "gold.csv"):
        given = pl.read_csv(demo.folder / name).select("id", "operator_tag").drop_nulls().join(truth, on="id")
        assert 0.78 < float((given["tag"] == given["operator_tag"]).mean()) < 0.82, name  # type: ignore[arg-type]


def test_operators_err_only_towards_similar_or_second_topics(made: pl.DataFrame) -> None:
    alike = {name: set(topic.like) for name, topic in phrases().topics.items()}
    wrong = made.drop_nulls("operator").filter(pl.col("tag") != pl.col("operator_tag"))
    for tag, tags, given in wrong.select("tag", "tags", "operator_tag").iter_rows():
        assert given in alike[tag] or given in tags


def test_an_operator_and_the_tag_are_missing_together(made: pl.DataFrame) -> None:
    assert (made["operator"].is_null() == made["operator_tag"].is_null()).all()
    assert 0.08 < float(made["operator"].is_null().mean()) < 0.12  # type: ignore[arg-type]


def test_the_main_topic_comes_first_of_one_or_two_different_topics(made: pl.DataFrame) -> None:
    assert (made["tags"].list.first() == made["tag"]).all()
    assert set(made["tags"].list.len().unique()) == {1, 2}
    assert (made["tags"].list.n_unique() == made["tags"].list.len()).all()
    assert 0.10 < float((made["tags"].list.len() == 2).mean()) < 0.20  # type: ignore[arg-type]


def test_texts_are_russian_and_english_and_have_no_placeholders_left(made: pl.DataFrame) -> None:
    texts = made["text"]
    assert texts.null_count() == 0
    assert texts.str.len_chars().min() >= 3  # type: ignore[operator]
    assert not texts.str.contains(r"[\x{e000}-\x{f8ff}{}<>|\[\]]").any()
    russian = texts.str.contains(r"[а-яА-Я]{3}")
    assert 0.6 < float(russian.mean()) < 0.8  # type: ignore[arg-type]


@pytest.mark.slow
def test_texts_are_hard_enough_to_need_more_than_a_thousand_labels(demo: DemoData) -> None:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    dev, gold = (pl.read_csv(demo.folder / name) for name in ("dev.csv", "gold.csv"))
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(C=10, max_iter=1000))
    model.fit(dev["text"].to_list(), dev["tag"].to_list())
    assert 0.70 < model.score(gold["text"].to_list(), gold["tag"].to_list()) < 0.85


def test_typos_only_change_letters() -> None:
    text = f"карта 4000 0012 {PII}, app!"
    changed = typos(pl.Series([text] * 2_000), np.random.default_rng(0), shares=(1.0,))
    keep = r"[\p{L}]"
    assert set(changed.str.replace_all(keep, "")) == {" 4000 0012 \ue002, !"}
    assert 0.15 < float((changed != text).mean()) < 1.0  # type: ignore[arg-type]


def test_a_template_expands_to_each_of_its_wordings() -> None:
    wordings = {expand("my {card|app} [please|now]?", random.Random(seed)) for seed in range(200)}
    assert wordings == {f"my {noun}{rest}?" for noun in ("card", "app") for rest in ("", " please", " now")}


def test_every_topic_has_vague_messages_and_similar_topics() -> None:
    vague = {name for each in phrases().vague for name in each.topics}
    assert vague == set(topics())
    for name, topic in phrases().topics.items():
        assert set(topic.like) <= set(topics()) - {name}
