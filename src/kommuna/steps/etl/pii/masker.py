"""Masks personal data in one text: patterns find candidates, check digits or the numbering plan confirm them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from functools import cache, reduce
from itertools import pairwise
from operator import or_

import polars as pl
from stdnum import iban

from kommuna.spec.texts import text_list
from kommuna.steps.etl.pii.digits import DIGIT, GAP, LONGEST_GAP, Found, numbers, plain_digits
from kommuna.steps.text import INVISIBLE, MARKS, normalize, normalized

KINDS = ("PHONE", "CARD", "IBAN", "INN", "SNILS", "EMAIL", "NAME")

_EMAIL = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_GAP = rf"{GAP}{{0,{LONGEST_GAP}}}"
_IBAN = re.compile(rf"(?<![^\W_])[A-Za-z]{{2}}[0-9]{{2}}(?:{_GAP}[A-Za-z0-9]){{11,30}}")
_WORD = re.compile(rf"(?:[^\W_]|[{MARKS}])+")  # in the normal form of a text
_LATIN = r"[A-Za-z\uFF21-\uFF3A\uFF41-\uFF5A]"
# Regular expressions (of Rust) that match every text with something to mask, and few others.
_CANDIDATES = {
    "email": "[@\uff20]",
    "iban": rf"{_LATIN}{{2}}{DIGIT}{{2}}(?:{_GAP}(?:{_LATIN}|{DIGIT})){{11}}",
    "number": rf"(?:{DIGIT}{_GAP}){{9}}{DIGIT}",
}
_MANY_NAMES = 300  # a regular expression of 10,000 names is over the engine's 10 MB; 80 take 0.03 s for 100,000 texts
_LETTER = r"[\p{L}\p{N}]"


class Masker:
    """Masks texts for one list of names and one region.

    Args:
        names: people's names; a name of several words matches where they follow each other.
        region: country of phone numbers without a country code, two letters.
    """

    def __init__(self, names: Iterable[str], region: str) -> None:
        self._region = region
        self._names: dict[str, list[tuple[str, ...]]] = {}
        for name in text_list("names", names):
            words = tuple(_WORD.findall(normalize(name)))
            if words:
                self._names.setdefault(words[0], []).append(words)
        for known in self._names.values():
            known.sort(key=len, reverse=True)
        self._first_words = sorted(self._names)

    def families(self, text: pl.Expr) -> dict[str, pl.Expr]:
        """Whether a text may have an e-mail address, an IBAN, a number or a name; no false negatives."""
        found = {family: text.str.contains(pattern) for family, pattern in _CANDIDATES.items()}
        return found | {"name": self._may_hold_name(text)} if self._first_words else found

    def candidate(self, text: pl.Expr) -> pl.Expr:
        """Whether a text may have anything to mask."""
        return reduce(or_, self.families(text).values())

    def _may_hold_name(self, text: pl.Expr) -> pl.Expr:
        words = self._first_words
        # True for few texts; in the others the normal form of a word is its lower case, with е for ё.
        changed = text.str.contains(_changed_letters())
        if len(words) <= _MANY_NAMES:
            # Not \b, which knows Unicode: with it 500,000 texts take 10 s, with the classes 0.3 s.
            listed = "|".join(re.escape(word).replace("е", "[её]") for word in words)
            return changed | text.str.contains(rf"(?:^|[^\p{{L}}\p{{N}}])(?i:{listed})(?:$|[^\p{{L}}\p{{N}}])")
        lower = text.str.to_lowercase().str.replace_all("ё", "е", literal=True)
        known = pl.element().is_in(pl.Series(words).implode())
        return changed | lower.str.extract_all(rf"{_LETTER}+").list.eval(known).list.any()

    def mask(self, text: str, families: Collection[str] | None = None) -> tuple[str, list[str]]:
        """Masks a text; returns it with the kinds of personal data found, in order.

        Args:
            text: any text.
            families: which of `families` the text matches; all are tried if absent.
        """
        families = (*_CANDIDATES, "name") if families is None else families
        found: list[Found] = []
        taken = bytearray(len(text))
        plain = plain_digits(text)

        def take(places: Iterable[Found]) -> None:
            for place in places:
                if not any(taken[place.start : place.end]):
                    taken[place.start : place.end] = b"\x01" * (place.end - place.start)
                    found.append(place)

        if "email" in families:
            take(Found(*match.span(), "EMAIL") for match in _EMAIL.finditer(plain))
        if "iban" in families:
            take(_ibans(plain))
        if "number" in families:
            take(numbers(plain, taken, self._region))
        if "name" in families:
            take(self._named(text))
        if not found:
            return text, []
        found.sort()
        pieces, end = [], 0
        for place in found:
            pieces += [text[end : place.start], f"[{place.kind}]"]
            end = place.end
        return "".join([*pieces, text[end:]]), [place.kind for place in found]

    def _named(self, text: str) -> Iterable[Found]:
        if not self._names:
            return
        normal = normalized(text)
        found = list(_WORD.finditer(normal.text))
        if self._names.keys().isdisjoint(match[0] for match in found):
            return
        words = [(*normal.span(*match.span()), match[0]) for match in found]
        at = 0
        while at < len(words):
            for name in self._names.get(words[at][2], ()):
                run = words[at : at + len(name)]
                gaps = all(0 < b[0] - a[1] <= 3 for a, b in pairwise(run))
                if gaps and tuple(word[2] for word in run) == name:
                    yield Found(run[0][0], run[-1][1], "NAME")
                    at += len(name) - 1
                    break
            at += 1


@cache
def _changed_letters() -> str:
    """A pattern of the characters that the normal form changes, merges or drops, unlike lower case."""
    letters = (char for char in map(chr, range(0x80, 0x30000)) if char.isalnum() and char not in "ёЁ")
    changed = "".join(char for char in letters if normalize(char) != char.lower())
    return f"[{MARKS}{INVISIBLE}{re.escape(changed)}]"


def _ibans(text: str) -> Iterable[Found]:
    at = 0
    while match := _IBAN.search(text, at):
        at = match.start() + 1
        end = match.end()
        while end - match.start() >= 15:
            follows = text[end : end + 1]
            if text[end - 1].isalnum() and not (follows.isascii() and follows.isalnum()):
                number = "".join(filter(str.isalnum, text[match.start() : end]))
                if iban.is_valid(number, check_country=False):
                    yield Found(match.start(), end, "IBAN")
                    at = end
                    break
            end -= 1
