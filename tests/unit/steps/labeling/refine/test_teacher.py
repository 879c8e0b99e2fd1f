"""The teacher of dev rows: what it gives messages."""

from __future__ import annotations

import numpy as np
import polars as pl

from kommuna.steps.labeling.refine.teacher import Teacher


def taught(dev: list[str], truth: list[int], messages: list[str]) -> list[int]:
    teacher = Teacher(pl.Series(dev), pl.Series(messages))
    given = teacher.tags(np.arange(len(dev)), np.eye(2, dtype=np.bool_)[truth], several_tags=False)
    return [int(tag) for tag in given.toarray().argmax(axis=1)]


def test_words_that_dev_rows_spell_otherwise_are_known_by_their_parts() -> None:
    dev = ["refunded", "refundable", "overdrafts", "overdrafted", "overdrawn"]
    assert taught(dev, [0, 0, 1, 1, 1], ["refunding", "an overdraft"]) == [0, 1]


def test_only_the_beginning_of_a_text_is_read_by_parts() -> None:
    dev = ["refunded", "refundable", "overdrafts", "overdrafted", "overdrawn"]
    late = "x " * 200 + "refunding"
    assert taught(dev, [0, 0, 1, 1, 1], [late]) == [1]  # nothing is known of it: the more frequent tag


def test_texts_without_a_word_are_not_an_error() -> None:
    assert len(taught(["?!", "..."], [0, 1], ["?"])) == 1
