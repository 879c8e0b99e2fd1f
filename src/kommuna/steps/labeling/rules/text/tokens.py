"""Token lines: texts in their normal form (`kommuna.steps.text`), cut into tokens, for keywords to be looked for in.

Tokens are the runs of letters, marks, numbers and underscores, and each other visible character by itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

import polars as pl

from kommuna.steps.text import INVISIBLE, MARKS, PLAIN, WORD, fold

# Text is ASCII or plain Cyrillic letters most of the time: NFKC leaves these as they are, and is skipped there.
_RARE = r"[^\x00-\x7f\u0400-\u0481]"
_WORD = r"\p{L}\p{M}\p{N}_"
_LAST_CASED = 0x1E943  # the last letter that has another case, Adlam's; a test looks at all characters
TOKEN = re.compile(rf"{WORD}+|[^\w{MARKS} ]")


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
    composed = _changed(texts, rare, _composed)
    old, new = _replacements()
    apart = composed.str.replace_many(old, new, leftmost=True)
    apart = _changed(apart, rare, lambda some: some.str.replace_all(rf"([^{_WORD}\x00-\x7f])", " $1 "))
    wide = apart.str.contains("  ", literal=True).fill_null(False).arg_true()
    return " " + _changed(apart, wide, lambda some: some.str.replace_all(r"  +", " ")) + " "


def _composed(texts: pl.Series) -> pl.Series:
    return texts.str.replace_all(f"[{INVISIBLE}]+", "").str.normalize("NFKC").str.to_lowercase()


def _changed(texts: pl.Series, rows: pl.Series, change: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """Texts of which some rows, mostly few, are changed."""
    return texts.clone().scatter(rows, change(texts.gather(rows))) if len(rows) else texts  # scatter is in place


@cache
def _replacements() -> tuple[list[str], list[str]]:
    """What makes a line of a text, but NFKC and lower-casing of rare letters: strings and what stands for them.

    One automaton does it all, which is faster than to lower-case first.
    """
    upper = [char for code in (*range(128), *range(0x400, 0x482)) if (char := chr(code)).lower() != char]
    signs = {char for char in map(chr, range(128)) if char.isprintable() and not char.isalnum() and char not in "_ "}
    unseen = {char: "" for char in map(chr, range(128)) if not fold(char)}
    folded = unseen | {sign: sign for sign in signs} | {char: char.lower() for char in upper} | _after_lowercase()
    folded |= {char: PLAIN[char.lower()] for char in upper if char.lower() in PLAIN}
    apart = {char: f" {to} " if to in signs else to for char, to in folded.items()}
    followed = {f"{char} ": to for char, to in apart.items() if to.endswith(" ")}  # leaves fewer double spaces
    both = followed | apart
    return list(both), list(both.values())


def tokens(text: str) -> list[str]:
    """The tokens of one string.

    >>> tokens("Где моя Кредитка-карта? It’s 24/7, c++")
    ['где', 'моя', 'кредитка', 'карта', '?', 'it', "'", 's', '24', '/', '7', ',', 'c', '+', '+']
    """
    return TOKEN.findall(fold(text))


def keyword_line(keyword: str) -> str:
    """A keyword's tokens as `token_lines` writes them; empty if it has none.

    >>> keyword_line("Top-Up")
    ' top up '
    """
    found = tokens(keyword)
    return f" {' '.join(found)} " if found else ""
