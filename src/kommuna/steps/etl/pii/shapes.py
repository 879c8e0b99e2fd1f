"""Where numbers may be in a sequence of digits, by its shape: texts of the same shape differ in their digits only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple

# Decimal digits of any script, between which people and programs put separators. Ranges by code points, which Python
# and Rust both read: hyphens and dashes, the minus, invisible characters, full-width punctuation.
DIGIT = r"\p{Nd}"  # in Python, digits are made plain first (`plain_digits`)
GAP = (
    r"[\s().*_\-/\u00AD\u00B7\u2010-\u2015\u2022\u2212\u200B-\u200D\u2060\uFEFF"
    r"\uFF08-\uFF0A\uFF0D-\uFF0F\uFF3F]"
)
LONGEST_GAP = 4  # characters
DIGITS = re.compile(r"[0-9]+")
FEWEST_CARD_DIGITS = 13
# At least ten digits (an INN, or a phone without a prefix) between which only separators stand.
_SEQUENCE = re.compile(rf"[0-9](?<![0-9][0-9])(?:[0-9]|{GAP}{{1,{LONGEST_GAP}}}+[0-9]){{9,}}+")
_GAP = re.compile(rf"{GAP}{{1,{LONGEST_GAP}}}")
_CARD_GAP = re.compile(rf"(?![()/]){GAP}(?:(?![()/]){GAP}){{0,{LONGEST_GAP - 1}}}")  # of a SNILS, too
_FEWEST_DIGITS, _MOST_DIGITS, _MOST_GROUPS = 10, 15, 8  # of a phone
_MOST_CARD_DIGITS = 19
_MOST_CARD_GROUPS = 6  # of different sizes; a list such as 3 4 5 … 13 has more
_CARD_GROUPS = {(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3)}
_SNILS_GROUPS = {(11,), (3, 3, 3, 2), (9, 2)}
_CACHED = 64  # characters of a shape whose places are kept
_ZEROS = str.maketrans("123456789", "000000000")

Form = Literal["card", "grouped card", "inn", "snils", "solid snils", "international", "phone", "prefixed phone"]
Group = tuple[int, int]


class NumberPlace(NamedTuple):
    """Where a number may be.

    Attributes:
        form: what its digits have to satisfy.
        start, end: its characters in the sequence.
        first, last: its digits among those of the sequence.
    """

    form: Form
    start: int
    end: int
    first: int
    last: int


def sequences(text: str) -> Iterator[tuple[int, int]]:
    """Yields the start and end of each sequence of digits in a text, with the plus and bracket of a phone."""
    for match in _SEQUENCE.finditer(text):
        start = match.start()
        if start and text[start - 1] in "+(":
            start -= 2 if text[start - 2 : start] == "+(" else 1
        yield start, match.end()


def shape(sequence: str) -> str:
    """Returns a sequence with 0 for each digit."""
    return sequence.translate(_ZEROS)


def card_places(shape: str) -> Iterable[NumberPlace]:
    """Returns where 13 to 19 digits may be a card, by their first groups, then by their last ones.

    They are solid or grouped as on a card (form `grouped card`), or separated anyhow (form `card`).
    """
    return _short_card_places(shape) if len(shape) <= _CACHED else _Groups(shape).card_places()


def number_places(shape: str) -> Iterable[tuple[int, Sequence[NumberPlace]]]:
    """Returns where an INN, a SNILS or a phone may be: by the start of their first group, in the order of preference.

    A longer number comes before a shorter one, an INN or a SNILS before a phone.
    """
    return _short_number_places(shape) if len(shape) <= _CACHED else _Groups(shape).number_places()


@lru_cache(maxsize=10_000)
def _short_card_places(shape: str) -> tuple[NumberPlace, ...]:
    return tuple(_Groups(shape).card_places())


@lru_cache(maxsize=10_000)
def _short_number_places(shape: str) -> tuple[tuple[int, Sequence[NumberPlace]], ...]:
    return tuple(_Groups(shape).number_places())


class _Groups:
    """The groups of digits of a shape, and the gaps between them."""

    def __init__(self, shape: str) -> None:
        self._shape = shape
        self._spans = [match.span() for match in DIGITS.finditer(shape)]
        self._sizes = [end - start for start, end in self._spans]
        self._before = [0, *accumulate(self._sizes)]  # digits before each group
        self._gaps = [shape[a[1] : b[0]] for a, b in pairwise(self._spans)]

    def card_places(self) -> Iterator[NumberPlace]:
        for at in range(len(self._spans)):
            for last in range(at, min(at + _MOST_CARD_DIGITS, len(self._spans))):
                if last > at and not self._joins(_CARD_GAP, last - 1):
                    break
                digits = self._before[last + 1] - self._before[at]
                if digits > _MOST_CARD_DIGITS:
                    break
                sizes = self._sizes[at : last + 1]
                usual = tuple(sizes) in _CARD_GROUPS and len(set(self._gaps[at:last])) == 1
                if digits < FEWEST_CARD_DIGITS:
                    continue
                if usual or last == at:
                    yield self._place("grouped card", at, last)
                elif len(sizes) <= _MOST_CARD_GROUPS or len(set(sizes[:-1])) == 1:
                    yield self._place("card", at, last)

    def number_places(self) -> Iterator[tuple[int, Sequence[NumberPlace]]]:
        for at in range(len(self._spans)):
            ends = [*self._spelled(at)]
            for last in range(at, min(at + _MOST_GROUPS, len(self._spans))):
                if last > at and not self._joins(_GAP, last - 1):
                    break
                digits = self._before[last + 1] - self._before[at]
                if digits > _MOST_DIGITS:
                    break
                if digits >= _FEWEST_DIGITS:
                    ends.append(last)
            ends.reverse()
            places = [place for last in ends if (place := self._checked(at, last))]
            places += [place for last in ends if (place := self._phone(at, last))]
            if places:
                yield self._spans[at][0], places

    def _place(self, form: Form, at: int, last: int, *, before: int = 0) -> NumberPlace:
        """Returns the place of groups, and of a number of characters before them."""
        start, end = self._spans[at][0] - before, self._spans[last][1]
        return NumberPlace(form, start, end, self._before[at], self._before[last + 1])

    def _joins(self, gap: re.Pattern[str], number: int) -> bool:
        """Whether a gap may separate groups of one number."""
        return len(self._gaps[number]) <= LONGEST_GAP and gap.fullmatch(self._gaps[number]) is not None

    def _spelled(self, at: int) -> Iterator[int]:
        """Yields the last of 10 to 15 single digits with separators that begin at a group; none if more follow."""

        def goes_on(last: int) -> bool:
            return self._sizes[last] == self._sizes[last + 1] == 1 and self._joins(_GAP, last)

        if self._sizes[at] != 1 or (at and goes_on(at - 1)):
            return
        last = at
        while last + 1 < len(self._spans) and last - at < _MOST_DIGITS and goes_on(last):
            last += 1
        if _FEWEST_DIGITS <= last + 1 - at <= _MOST_DIGITS:
            yield last

    def _checked(self, at: int, last: int) -> NumberPlace | None:
        """Returns the place of groups that may be an INN or a SNILS; after a plus solid digits are a phone."""
        sizes = tuple(self._sizes[at : last + 1])
        if len(sizes) == 1 and self._preceded(at, "+"):
            return None
        if sizes in ((10,), (12,)):
            return self._place("inn", at, last)
        if sizes not in _SNILS_GROUPS or not all(self._joins(_CARD_GAP, gap) for gap in range(at, last)):
            return None
        return self._place("solid snils" if len(sizes) == 1 else "snils", at, last)

    def _phone(self, at: int, last: int) -> NumberPlace | None:
        """Returns the place of groups that may be a phone, with its plus and bracket."""
        sizes = self._sizes[at : last + 1]
        bracket = 1 if self._preceded(at, "(") else 0
        if self._preceded(at, "+", skipped=bracket):
            return self._place("international", at, last, before=bracket + 1)
        if sizes[0] >= 3 or max(sizes) == 1:
            return self._place("phone", at, last, before=bracket)
        if sizes[0] == 1 and len(sizes) > 1 and sizes[1] >= 3:
            return self._place("prefixed phone", at, last, before=bracket)
        return None

    def _preceded(self, at: int, mark: str, *, skipped: int = 0) -> bool:
        before = self._spans[at][0] - skipped
        return before > 0 and self._shape[before - 1] == mark
