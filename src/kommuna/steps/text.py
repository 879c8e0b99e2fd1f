"""The normal form of text, by which every step compares texts and words.

`normalize(s)` drops invisible characters, then applies Unicode NFKC, full case folding, and the replacements of
`PLAIN` (ё becomes е, stress marks are dropped, curly quotes and apostrophes become straight, dashes and white space
become a space). A word is then a run of letters, marks, numbers and underscores (`WORD`). docs/rules.md documents it
for users.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

_SPACES = "\t\n\x0b\x0c\r\x85\u1680\u2028\u2029"  # white space that NFKC does not replace by " "

PLAIN: dict[str, str] = (
    dict.fromkeys("\u2018\u2019\u201b\u02bc\u0060", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb", '"')
    | dict.fromkeys("-\u2010\u2011\u2012\u2013\u2014\u2015\u2212", " ")
    | dict.fromkeys(_SPACES, " ")
    | dict.fromkeys("\u0300\u0301", "")
    | {"ё": "е"}
)


def _characters(*categories: str) -> str:
    """Returns the characters of Unicode categories, except `_SPACES`, as the inside of a regular expression's brackets.

    They are written out because Python's `re` does not support categories, unlike the engine of Polars.
    """
    found: list[list[int]] = []
    for code in (*range(0x1F000), *range(0xE0000, 0xE0200)):  # a test checks that no others exist
        if unicodedata.category(chr(code)) not in categories or chr(code) in _SPACES:
            continue
        if found and code == found[-1][1] + 1:
            found[-1][1] = code
        else:
            found.append([code, code])
    return "".join(f"\\U{low:08x}" + (f"-\\U{high:08x}" if high > low else "") for low, high in found)


INVISIBLE = _characters("Cf", "Cc")  # zero-width space and joiners, soft hyphen, direction marks, control characters …
MARKS = _characters("Mn", "Mc", "Me")
WORD = rf"[\w{MARKS}]"  # a character of a word, for `re`
POLARS_WORD = r"\p{L}\p{M}\p{N}_"  # the same for Polars, as the inside of brackets

_INVISIBLE = re.compile(f"[{INVISIBLE}]+")
_NOT_PLAIN = re.compile(f"[{''.join(map(re.escape, PLAIN))}]")
_NOT_IN_WORDS = re.compile(rf"[^\w{MARKS}]+|_+")
# Characters that NFKC may combine with the one before: marks, parts of Hangul, voice marks of halfwidth Katakana.
_JOINED = rf"{MARKS}{INVISIBLE}\u1100-\u11ff\u3131-\u318e\ua960-\ua97f\ud7b0-\ud7ff\uff9e-\uffdc"
_CLUSTER = re.compile(rf"[{INVISIBLE}]*[^{INVISIBLE}]?[{_JOINED}]*", re.DOTALL)
_ONE_BY_ONE = re.compile(r"[ -~\u00ab\u00bb\u0400-\u0481\u2013\u2014\u201c-\u201f]*")  # each folds to one character


def normalize(text: str) -> str:
    """Returns the normal form of a text.

    >>> normalize("Ещё за\u0301мок – ＣＡＲＤ")
    'еще замок   card'
    """
    if not text.isprintable():  # fast, and false if any character is invisible
        text = _INVISIBLE.sub("", text)
    return _NOT_PLAIN.sub(_plain, unicodedata.normalize("NFKC", text).casefold())


def bare(text: str | None) -> str:
    """Returns the words of a text, separated by single spaces; equal for copies of a text with other punctuation.

    >>> bare(" Где моя   КАРТА?! ")
    'где моя карта'
    """
    return _NOT_IN_WORDS.sub(" ", normalize(text or "")).strip()


@dataclass(frozen=True)
class Normalized:
    """The normal form of a text, with the position of each character in the original.

    Attributes:
        text: the normal form, c characters.
        start: c, start of each character in the original.
        end: c, end of each character in the original.
    """

    text: str
    start: Sequence[int]
    end: Sequence[int]

    def span(self, first: int, end: int) -> tuple[int, int]:
        """Returns the start and end in the original of a part of the normal form.

        Args:
            first: the position of the part's first character in the normal form.
            end: the position after its last character.
        """
        return self.start[first], self.end[end - 1]


def has_plain_letters(text: str) -> bool:
    """Whether the words of a text's normal form are those of its lower case, with е for ё, at the same places."""
    return _ONE_BY_ONE.fullmatch(text) is not None


def normalized(text: str) -> Normalized:
    """Returns the normal form with the position of each character, so that matches can be shown in the original."""
    if _ONE_BY_ONE.fullmatch(text):
        return Normalized(normalize(text), range(len(text)), range(1, len(text) + 1))
    parts: list[str] = []
    start: list[int] = []
    end: list[int] = []
    for match in _CLUSTER.finditer(text):
        part = _part(match[0])
        parts.append(part)
        start += [match.start()] * len(part)
        end += [match.end()] * len(part)
    return Normalized("".join(parts), start, end)


@lru_cache(maxsize=10_000)
def _part(text: str) -> str:
    return normalize(text)


def _plain(match: re.Match[str]) -> str:
    return PLAIN[match[0]]
