"""How text is made comparable before keywords are looked for: one folded form for texts and keywords alike.

`fold(s)` is Unicode NFKC, full case folding, then the few replacements of `PLAIN` (ё to е, stress marks dropped,
curly quotes and apostrophes made straight, every dash a space). Tokens are then the runs of letters, marks, numbers
and underscores, and each other visible character by itself. docs/rules.md says the same for people.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import cache

import polars as pl

# Text is ASCII or plain Cyrillic letters most of the time: NFKC leaves these as they are, and is skipped there.
_RARE = r"[^\x00-\x7f\u0400-\u0481]"
_WORD = r"\p{L}\p{M}\p{N}_"
_LAST_CASED = 0x1E943  # the last letter that has another case, Adlam's; a test looks at all characters
_SPACES = "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f\x85\u1680\u2028\u2029"  # what NFKC leaves of white space besides " "

PLAIN: dict[str, str] = (
    dict.fromkeys("\u2018\u2019\u201b\u02bc\u0060", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb", '"')
    | dict.fromkeys("-\u2010\u2011\u2012\u2013\u2014\u2015\u2212", " ")
    | dict.fromkeys(_SPACES, " ")
    | dict.fromkeys("\u0300\u0301\u00ad\u200b\u200c\u200d\u2060\ufeff", "")
    | {"ё": "е"}
)


@cache
def _after_lowercase() -> dict[str, str]:
    """What lower-casing leaves to be done: full case folding where it differs (ß to ss, ς to σ …), then `PLAIN`."""
    rest: dict[str, str] = {}
    for code in range(_LAST_CASED + 1):
        for char in chr(code).lower():
            folded = char.casefold()
            if folded != char:
                rest[char] = "".join(PLAIN.get(c, c) for c in folded)
    return rest | PLAIN


def rare_rows(texts: pl.Series) -> pl.Series:
    """The rows, few as a rule, with a character that NFKC may change; all else is ASCII or Cyrillic letters."""
    return texts.str.contains(_RARE).fill_null(False).arg_true()


def token_lines(texts: pl.Series, rare: pl.Series) -> pl.Series:
    """The folded texts' tokens with a space around each, one space between two: a keyword is then a plain substring.

    A text's line may begin and end with more than one space; null stays null.

    Args:
        texts: a String column.
        rare: what `rare_rows` says of it.
    """
    composed = _changed(texts, rare, lambda some: some.str.normalize("NFKC").str.to_lowercase())
    old, new = _replacements()
    apart = composed.str.replace_many(old, new, leftmost=True)
    apart = _changed(apart, rare, lambda some: some.str.replace_all(rf"([^{_WORD}\x00-\x7f])", " $1 "))
    wide = apart.str.contains("  ", literal=True).fill_null(False).arg_true()
    return " " + _changed(apart, wide, lambda some: some.str.replace_all(r"  +", " ")) + " "


def _changed(texts: pl.Series, rows: pl.Series, change: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """Texts of which some rows, mostly few, are changed."""
    return texts.clone().scatter(rows, change(texts.gather(rows))) if len(rows) else texts  # scatter is in place


@cache
def _replacements() -> tuple[list[str], list[str]]:
    """What makes a line of a text, but NFKC and lower-casing of rare letters: strings and what stands for them.

    One automaton does it all, which is faster than to lower-case first.
    """
    upper = [char for code in (*range(128), *range(0x400, 0x482)) if (char := chr(code)).lower() != char]
    signs = {char for char in map(chr, range(128)) if not char.isalnum() and char not in "_ "}
    folded = {sign: sign for sign in signs} | {char: char.lower() for char in upper} | _after_lowercase()
    folded |= {char: PLAIN[char.lower()] for char in upper if char.lower() in PLAIN}
    apart = {char: f" {to} " if to in signs else to for char, to in folded.items()}
    followed = {f"{char} ": to for char, to in apart.items() if to.endswith(" ")}  # leaves fewer double spaces
    both = followed | apart
    return list(both), list(both.values())


def fold(text: str) -> str:
    """The folded form of one string, by Python alone: the reference that `token_lines` is tested against."""
    return "".join(PLAIN.get(char, char) for char in unicodedata.normalize("NFKC", text).casefold())


def tokens(text: str) -> list[str]:
    """The tokens of one string.

    >>> tokens("Где моя Кредитка-карта? It’s 24/7, c++")
    ['где', 'моя', 'кредитка', 'карта', '?', 'it', "'", 's', '24', '/', '7', ',', 'c', '+', '+']
    """
    found: list[str] = []
    word = ""
    for char in fold(text) + " ":
        if unicodedata.category(char)[0] in "LMN" or char == "_":
            word += char
            continue
        if word:
            found.append(word)
            word = ""
        if char != " ":
            found.append(char)
    return found


def keyword_line(keyword: str) -> str:
    """A keyword's tokens as `token_lines` writes them; empty if it has none.

    >>> keyword_line("Top-Up")
    ' top up '
    """
    found = tokens(keyword)
    return f" {' '.join(found)} " if found else ""
