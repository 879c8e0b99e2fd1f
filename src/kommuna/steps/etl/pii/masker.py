"""Masks personal data in texts: patterns find candidates, check digits or the numbering plan confirm them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

import numpy as np
import polars as pl

from kommuna.steps.etl.pii.accounts import ibans
from kommuna.steps.etl.pii.digits import numbers, plain_digits
from kommuna.steps.etl.pii.found import Found
from kommuna.steps.etl.pii.names import Names
from kommuna.steps.etl.pii.shapes import DIGIT, GAP, LONGEST_GAP

KINDS = ("PHONE", "CARD", "IBAN", "INN", "SNILS", "EMAIL", "NAME")

_EMAIL = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_GAP = rf"{GAP}{{0,{LONGEST_GAP}}}"
_LATIN = r"[A-Za-z\uFF21-\uFF3A\uFF41-\uFF5A]"
# Regular expressions (of Rust) that match every text with something to mask, and few others.
_CANDIDATES = {
    "email": "[@\uff20]",
    "iban": rf"{_LATIN}{{2}}{DIGIT}{{2}}(?:{_GAP}(?:{_LATIN}|{DIGIT})){{11}}",
    "number": rf"(?:{DIGIT}{_GAP}){{9}}{DIGIT}",
}
_NUMBER = {kind: number for number, kind in enumerate(KINDS)}


class Masker:
    """Masks texts for one list of names and one region.

    Args:
        names: people's names; a name of several words matches where they follow each other.
        region: country of phone numbers without a country code, two letters.
    """

    def __init__(self, names: Iterable[str], region: str) -> None:
        self._region = region
        self._names = Names(names)
        text = pl.col("text")
        self._families = {family: text.str.contains(pattern) for family, pattern in _CANDIDATES.items()}
        self._first_words = pl.lit(None)
        if self._names:
            self._families["name"] = self._names.may_be_in(text)
            self._first_words = self._names.first_words(text)
        # The families of a text as one number, since a list of them per text takes longer.
        self._bits = {name: 1 << number for number, name in enumerate(self._families)}
        self._held = [
            [name for name, bit in self._bits.items() if number & bit] for number in range(1 << len(self._bits))
        ]

    def mask_column(self, texts: pl.Series) -> pl.DataFrame:
        """Masks a column of texts.

        Returns:
            One row per text: `text`, and by the name of each kind how often it was found.
        """
        frame = texts.alias("text").to_frame()
        flags = frame.select(holds.fill_null(False).alias(name) for name, holds in self._families.items())
        places = flags.select(pl.any_horizontal(pl.all()).arg_true()).to_series()
        found = frame[places].with_columns(self._first_words.alias("first words"))
        families = flags[places].select(pl.sum_horizontal(pl.col(name) * bit for name, bit in self._bits.items()))
        counts = np.zeros((len(KINDS), len(texts)), np.uint32)
        masked: list[str] = []
        columns = (places, found["text"], families.to_series(), found["first words"])
        for at, text, number, words in zip(*(column.to_list() for column in columns), strict=True):
            new, kinds = self.mask(text, self._held[number], words)
            masked.append(new)
            for kind in kinds:
                counts[_NUMBER[kind], at] += 1
        counted = {kind: pl.Series(row) for kind, row in zip(KINDS, counts, strict=True)}
        return pl.DataFrame({"text": texts.clone().scatter(places, masked) if masked else texts, **counted})

    def mask(
        self, text: str, families: Collection[str] | None = None, first_words: Iterable[str] | None = None
    ) -> tuple[str, list[str]]:
        """Masks a text; returns it with the kinds of personal data found, in order.

        Args:
            text: any text.
            families: which of `email`, `iban`, `number` and `name` the text may hold; all if absent.
            first_words: what `Names.first_words` gives for the text, if known.
        """
        taken = bytearray(len(text))
        plain = plain_digits(text)
        found: list[Found] = []
        if families is None or "email" in families:
            _take([(*match.span(), "EMAIL") for match in _EMAIL.finditer(plain)], taken, found)
        if families is None or "iban" in families:
            _take(ibans(plain), taken, found)
        if families is None or "number" in families:
            _take(numbers(plain, taken, self._region), taken, found)
        if families is None or "name" in families:
            _take(self._names.find(text, first_words), taken, found)
        found.sort()
        pieces: list[str] = []
        at = 0
        for start, end, kind in found:
            pieces += (text[at:start], "[", kind, "]")
            at = end
        return "".join([*pieces, text[at:]]), [kind for _, _, kind in found]


def _take(places: Iterable[Found], taken: bytearray, found: list[Found]) -> None:
    """Adds places to those found, unless a part of one is taken."""
    for place in places:
        start, end, _ = place
        if taken.find(1, start, end) < 0:
            taken[start:end] = b"\x01" * (end - start)
            found.append(place)
