"""Typing errors: swapped, dropped, doubled and neighbouring letters, unusual case, missing punctuation."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import polars as pl

_KEYBOARDS = ("йцукенгшщзхъ", "фывапролджэ", "ячсмитьбю", "qwertyuiop", "asdfghjkl", "zxcvbnm")
_RIGHT = {a: b for row in _KEYBOARDS for a, b in pairwise(row)}
_LEFT = {b: a for a, b in _RIGHT.items()}
_SWAP, _DROP, _DOUBLE, _RIGHT_KEY, _LEFT_KEY = range(5)


def typos(texts: pl.Series, rng: np.random.Generator, *, shares: tuple[float, ...] = (0.28, 0.10, 0.03)) -> pl.Series:
    """Adds typos to texts; only letters are changed.

    Args:
        texts: n texts.
        rng: source of random numbers.
        shares: share of the rows that get a first, a second and a third typo.
    """
    hurried = rng.random(len(texts))
    for share in shares:
        rows = np.flatnonzero(hurried < share)
        if len(rows):
            texts = texts.scatter(pl.Series(rows), _one_typo(texts.gather(pl.Series(rows)), rng))
    return texts


def _one_typo(texts: pl.Series, rng: np.random.Generator) -> pl.Series:
    length = texts.str.len_chars().to_numpy().astype(np.int64)
    place = (rng.random(len(texts)) * np.maximum(length - 1, 1)).astype(np.int64)
    frame = pl.DataFrame({"text": texts, "place": place, "slip": rng.integers(0, 5, len(texts))})
    text, place_, slip = pl.col("text"), pl.col("place"), pl.col("slip")
    parts = frame.with_columns(
        head=text.str.slice(0, place_),
        a=text.str.slice(place_, 1),
        b=text.str.slice(place_ + 1, 1),
        tail=text.str.slice(place_ + 2),
    )
    a, b = pl.col("a"), pl.col("b")
    letters = a.str.contains(r"^\p{L}$") & b.str.contains(r"^\p{L}$")
    pair = (
        pl.when(~letters)
        .then(a + b)
        .when(slip == _SWAP)
        .then(b + a)
        .when(slip == _DROP)
        .then(b)
        .when(slip == _DOUBLE)
        .then(a + a + b)
        .when(slip == _RIGHT_KEY)
        .then(a.replace(_RIGHT) + b)
        .otherwise(a.replace(_LEFT) + b)
    )
    return parts.select(pl.concat_str("head", pair, "tail").alias("text"))["text"]


def odd_case(texts: pl.Series, rng: np.random.Generator) -> pl.Series:
    """Changes the case of texts: 3 % become upper case, 25 % lower case, and 6 % end in `!!!` or `???`."""
    mood, end = rng.random(len(texts)), rng.random(len(texts))
    texts = _changed(texts, mood < 0.03, pl.col("text").str.to_uppercase())
    texts = _changed(texts, (mood >= 0.03) & (mood < 0.28), pl.col("text").str.to_lowercase().str.strip_chars_end(".?"))
    for marks, chosen in (("!!!", end < 0.03), ("???", (end >= 0.03) & (end < 0.06))):
        texts = _changed(texts, chosen, pl.concat_str(pl.col("text").str.strip_chars_end(".?"), pl.lit(marks)))
    return texts


def _changed(texts: pl.Series, chosen: npt.NDArray[np.bool_], change: pl.Expr) -> pl.Series:
    rows = pl.Series(np.flatnonzero(chosen))
    return texts.scatter(rows, texts.gather(rows).to_frame("text").select(change)["text"]) if len(rows) else texts
