"""Plain texts, which are most: many of them as one line of one byte a character, quick to look through.

A text is plain if it has Russian letters, ASCII, and quotes, dashes, currency signs, emoji and the like alone. Folding
it (`fold`) is a look into a table, character by character. All other texts are odd, and marked as such.
"""

from __future__ import annotations

import string
import unicodedata
from collections.abc import Iterator
from functools import cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kommuna.steps.labeling.rules.text.tokens import tokens
from kommuna.steps.text import fold

SIGN = "."  # stands for every visible character that belongs to no word
ROW = "\x00"  # stands between two texts
ODD = "\x01"  # stands in a text that is not plain
# Characters next to which folding leaves a Latin or Cyrillic letter as it is: no marks that compose with it, no
# letters that are another case of it. Elsewhere a text may match a pattern whose words folding does not show.
UNDISTURBED = (
    r"\x00-\x7f\xa0-\xa7\xa9-\xae\xb0-\xb3\xb6\xb7\xb9-\xff\u0400-\u0481\u2010-\u2027\u2030-\u203a\u20a0-\u20bf"
    r"\u2116\u2190-\u21ff\u2600-\u27bf\ufe0f\x{1f300}-\x{1faff}"
)
_SPACE = ord(" ")

_RUSSIAN = "абвгдежзийклмнопрстуфхцчшщъыьэюя"
_LETTERS = dict(zip(_RUSSIAN, string.ascii_uppercase + "!#$%&@", strict=True))
# In UTF-8 a Russian letter is 0xD0 or 0xD1 and a second byte. That byte alone tells the letter, but for ё and Ё.
_FIRST, _LATER = 0xD0, 0xD1
_SMALL_YO, _LARGE_YO, _SECOND_OF_YE = 0x91, 0x81, 0xB5
_DROPPED = _FIRST  # a byte that is in no line
_LENGTHS = {0xC2: 2, 0xE2: 3, 0xF0: 4}  # in bytes, of characters that begin so and have an ASCII text


def plain_line(texts: pl.Series) -> pl.Series:
    """The texts' codes in one string, a space around each, `ROW` between two.

    Words are told apart by one space or by signs: white space and hyphens are spaces, two or more of them are one.

    Args:
        texts: one String or more; a null is an empty text.

    Returns:
        One Binary, which is ASCII.
    """
    buffer = _joined(texts)
    _settle(np.frombuffer(buffer, dtype=np.uint8))
    _write_ascii(buffer)
    codes = np.frombuffer(buffer.translate(_TABLE, bytes((_FIRST, _LATER))), dtype=np.uint8)
    blank = codes == _SPACE
    again = blank[1:] & blank[:-1]
    if again.any():
        codes = codes[np.append(~again, True)]  # the last of each run stays
    return pl.Series([codes.tobytes()], dtype=pl.Binary)


def plain_code(folded: str) -> str | None:
    """How tokens, one space between two, stand in the line of a plain text; None if they cannot.

    >>> plain_code("top up"), plain_code("c + +"), plain_code("naïve")
    ('top up', 'c . .', None)
    """
    codes = [_code(char) for char in folded]
    return None if ODD in codes else "".join(codes)


def whole_words(code: str) -> Iterator[str]:
    """What is looked for in a line so that a code is found where it does not begin or end within a word."""
    for before in (" ", SIGN):
        for after in (" ", SIGN):
            yield before + code + after


def _joined(texts: pl.Series) -> bytearray:
    whole = texts.to_frame().select(pl.all().fill_null("").str.join(f" {ROW} ").cast(pl.Binary))
    buffer = bytearray(b" ")
    buffer += whole.item()
    buffer += b" "
    if buffer.count(0) == len(texts) - 1:
        return buffer
    return _joined(texts.str.replace_all(ROW, ODD, literal=True))


def _write_ascii(buffer: bytearray) -> None:
    """Writes, in place, what folds alike over quotes, dashes and the like."""
    bytes_ = np.frombuffer(buffer, dtype=np.uint8)
    for lead, length in _LENGTHS.items():
        if lead not in buffer:
            continue
        codes, texts = _ascii_table()
        where = np.flatnonzero(bytes_ == lead)
        code = np.full(len(where), lead & (0x7F >> length), dtype=np.int64)
        for i in range(1, length):
            code = code << 6 | (bytes_[where + i] & 0x3F)
        nearest = np.searchsorted(codes, code).clip(max=len(codes) - 1)
        known = codes[nearest] == code
        for i in range(length):
            bytes_[where[known] + i] = texts[nearest[known], i]


def _settle(bytes_: NDArray[np.uint8]) -> None:
    """Makes ё, in place, the е that it folds to, and marks other letters whose second byte would mislead."""
    first, second = bytes_[:-1], bytes_[1:]
    # A first byte is followed by 0x80 or more; misleading is 0xD0 with less than 0x90, and 0xD1 with that or more.
    where = np.flatnonzero((first ^ _FIRST) == (second >= 0x90))
    yo = second[where] == np.where(first[where] == _LATER, _SMALL_YO, _LARGE_YO)
    second[where[yo]] = _SECOND_OF_YE
    first[where[~yo]] = ord(ODD)


def _code(char: str) -> str:
    if not fold(char):
        return ODD
    found = tokens(char)
    if not found:
        return " "
    folded = found[0]
    if folded in _LETTERS:
        return _LETTERS[folded]
    if not folded.isascii():
        return SIGN if folded in _ascii_texts() else ODD
    if not folded.isprintable():
        return ODD
    return folded if folded.isalnum() or folded == "_" else SIGN


@cache
def _ascii_texts() -> dict[str, str]:
    """Characters that are as good as an ASCII text, of as many bytes at most."""
    characters = pl.Series([*map(chr, (*range(0x80, 0xC0), *range(0x2000, 0x3000), *range(0x1F000, 0x1FB00)))])
    found = {}
    for char in characters.filter(characters.str.contains(f"[{UNDISTURBED}]")):
        kinds = {unicodedata.category(token)[0] if len(token) == 1 else "L" for token in tokens(char)}
        text = SIGN * len(tokens(char)) if kinds and not kinds & set("LMNC") else fold(char)
        if text.isascii() and len(text) <= len(char.encode()):
            found[char] = text
    return found


@cache
def _ascii_table() -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Code points, ascending, and their ASCII texts in four bytes each."""
    codes = np.array([ord(char) for char in _ascii_texts()], dtype=np.int64)
    padded = b"".join(text.encode().ljust(4, bytes((_DROPPED,))) for text in _ascii_texts().values())
    return codes, np.frombuffer(padded, dtype=np.uint8).reshape(-1, 4)


def _table() -> bytes:
    """The code of each byte; the second bytes of Russian letters stand for the letters."""
    codes = [ODD] * 256
    codes[:128] = [_code(chr(code)) for code in range(128)]
    codes[ord(ROW)] = ROW
    codes[0x80:0x90] = [_code(chr(0x440 + i)) for i in range(16)]
    codes[0x90:0xC0] = [_code(chr(0x410 + i)) for i in range(48)]
    return "".join(codes).encode("ascii")


_TABLE = _table()
