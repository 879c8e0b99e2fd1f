"""The teacher: its predictions of messages from dev rows."""

from __future__ import annotations

import numpy as np
import polars as pl

from kommuna.steps.labeling.refine.teacher import Teacher


def predicted(dev: list[str], truth: list[int], messages: list[str]) -> list[int]:
    teacher = Teacher(pl.Series(dev), pl.Series(messages))
    found = teacher.tags(np.arange(len(dev)), np.eye(2, dtype=np.bool_)[truth], multi_label=False)
    return [int(tag) for tag in found.toarray().argmax(axis=1)]


def test_words_that_are_not_in_dev_are_recognized_by_their_parts() -> None:
    dev = ["refunded", "refundable", "overdrafts", "overdrafted", "overdrawn"]
    assert predicted(dev, [0, 0, 1, 1, 1], ["refunding", "an overdraft"]) == [0, 1]


def test_parts_of_words_are_read_from_the_beginning_of_a_text_only() -> None:
    dev = ["refunded", "refundable", "overdrafts", "overdrafted", "overdrawn"]
    late = "x " * 200 + "refunding"
    assert predicted(dev, [0, 0, 1, 1, 1], [late]) == [1]  # no known word or part: the more frequent tag


def test_texts_without_a_word_are_not_an_error() -> None:
    assert len(predicted(["?!", "..."], [0, 1], ["?"])) == 1
