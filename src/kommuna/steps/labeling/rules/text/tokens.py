"""Token lines: texts in their normal form (`kommuna.steps.text`), split into tokens, in which keywords are searched.

A token is a run of letters, marks, numbers and underscores, or one other visible character.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

import polars as pl

from kommuna.steps.text import INVISIBLE, MARKS, PLAIN, POLARS_WORD, WORD, normalize

# Most texts are ASCII and Cyrillic letters, which NFKC does not change: it is skipped for them.
_RARE = r"[^\x00-\x7f\u0400-\u0481]"
_LAST_CASED = 0x1E943  # the last letter with another case, of the Adlam script; a test covers all characters
TOKEN = re.compile(rf"{WORD}+|[^\w{MARKS} ]")


@cache
def _after_lowercase() -> dict[str, str]:
    """Returns the replacements after lower-casing: full case folding where it differs (ß to ss, ς to σ …), `PLAIN`."""
    rest: dict[str, str] = {}
    for code in range(_LAST_CASED + 1):
        for char in chr(code).lower():
            folded = char.casefold()
            if folded != char:
                rest[char] = "".join(PLAIN.get(c, c) for c in folded)
    return rest | PLAIN


def rare_rows(texts: pl.Series) -> pl.Series:
    """Returns the indices of the texts (usually few) with a character that NFKC may change."""
    return texts.str.contains(_RARE).fill_null(False).arg_true()


def token_lines(texts: pl.Series, rare: pl.Series) -> pl.Series:
    """Folds texts and separates their tokens by one space, so that a keyword can be found as a substring.

    A line may begin and end with more than one space; null stays null.

    Args:
        texts: a String column.
        rare: the result of `rare_rows` for it.
    """
    composed = _changed(texts, rare, _composed)
    old, new = _replacements()
    apart = composed.str.replace_many(old, new, leftmost=True)
    apart = _changed(apart, rare, lambda some: some.str.replace_all(rf"([^{POLARS_WORD}\x00-\x7f])", " $1 "))
    wide = apart.str.contains("  ", literal=True).fill_null(False).arg_true()
    return " " + _changed(apart, wide, lambda some: some.str.replace_all(r"  +", " ")) + " "


def _composed(texts: pl.Series) -> pl.Series:
    return texts.str.replace_all(f"[{INVISIBLE}]+", "").str.normalize("NFKC").str.to_lowercase()


def _changed(texts: pl.Series, rows: pl.Series, change: Callable[[pl.Series], pl.Series]) -> pl.Series:
    """Returns the texts with some rows replaced by `change` of them."""
    return texts.clone().scatter(rows, change(texts.gather(rows))) if len(rows) else texts  # scatter works in place


@cache
def _replacements() -> tuple[list[str], list[str]]:
    """Returns the strings that make a token line of a text, except NFKC and rare letters, and their replacements.

    One pass with all replacements is faster than lower-casing first.
    """
    upper = [char for code in (*range(128), *range(0x400, 0x482)) if (char := chr(code)).lower() != char]
    signs = {char for char in map(chr, range(128)) if char.isprintable() and not char.isalnum() and char not in "_ "}
    unseen = {char: "" for char in map(chr, range(128)) if not normalize(char)}
    folded = unseen | {sign: sign for sign in signs} | {char: char.lower() for char in upper} | _after_lowercase()
    folded |= {char: PLAIN[char.lower()] for char in upper if char.lower() in PLAIN}
    apart = {char: f" {to} " if to in signs else to for char, to in folded.items()}
    followed = {f"{char} ": to for char, to in apart.items() if to.endswith(" ")}  # avoids most double spaces
    both = followed | apart
    return list(both), list(both.values())


def tokens(text: str) -> list[str]:
    """Returns the tokens of one string.

    >>> tokens("Где моя Кредитка-карта? It’s 24/7, c++")
    ['где', 'моя', 'кредитка', 'карта', '?', 'it', "'", 's', '24', '/', '7', ',', 'c', '+', '+']
    """
    return TOKEN.findall(normalize(text))


def keyword_line(keyword: str) -> str:
    """Joins a keyword's tokens as `token_lines` writes them; empty if it has none.

    >>> keyword_line("Top-Up")
    ' top up '
    """
    found = tokens(keyword)
    return f" {' '.join(found)} " if found else ""
