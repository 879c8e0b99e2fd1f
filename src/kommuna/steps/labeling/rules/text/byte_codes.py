"""Encodes many texts as one line with one byte per character, which is faster to search than the texts.

A text can be encoded if it consists of Russian letters, ASCII, and common signs such as quotes, dashes, currency signs
and emoji: its normal form (`normalize`) then follows from a table, character by character. Other texts contain
`NO_CODE`.
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
from kommuna.steps.text import normalize

SIGN = "."  # the code of every visible character outside words
ROW = "\x00"  # separates two texts
NO_CODE = "\x01"  # the code of a character that has none
# Characters that do not change how a Latin or Cyrillic letter next to them is folded: no marks that compose with it, no
# other case of such a letter. With other characters a text may match a regex though its normal form lacks the words.
NEUTRAL = (
    r"\x00-\x7f\xa0-\xa7\xa9-\xae\xb0-\xb3\xb6\xb7\xb9-\xff\u0400-\u0481\u2010-\u2027\u2030-\u203a\u20a0-\u20bf"
    r"\u2116\u2190-\u21ff\u2600-\u27bf\ufe0f\x{1f300}-\x{1faff}"
)
_SPACE = ord(" ")

_RUSSIAN = "абвгдежзийклмнопрстуфхцчшщъыьэюя"
_LETTERS = dict(zip(_RUSSIAN, string.ascii_uppercase + "!#$%&@", strict=True))
# In UTF-8 a Russian letter is the byte 0xD0 or 0xD1 and a second byte, which identifies the letter, except ё and Ё.
_LEAD_D0, _LEAD_D1 = 0xD0, 0xD1
_SMALL_YO, _LARGE_YO, _SECOND_OF_YE = 0x91, 0x81, 0xB5
_PADDING = _LEAD_D0  # a byte that is removed from every line
_LENGTHS = {0xC2: 2, 0xE2: 3, 0xF0: 4}  # length in bytes, by first byte, of the characters with an ASCII equivalent


def encoded_line(texts: pl.Series) -> pl.Series:
    """Encodes texts as one string: a space around each text, `ROW` between two.

    White space and hyphens are spaces; a run of them is one space. So words are separated by one space or by signs.

    Args:
        texts: at least one String; null is an empty text.

    Returns:
        One Binary of ASCII characters.
    """
    buffer = _joined(texts)
    _resolve_second_bytes(np.frombuffer(buffer, dtype=np.uint8))
    _write_ascii(buffer)
    codes = np.frombuffer(buffer.translate(_TABLE, bytes((_LEAD_D0, _LEAD_D1))), dtype=np.uint8)
    blank = codes == _SPACE
    again = blank[1:] & blank[:-1]
    if again.any():
        codes = codes[np.append(~again, True)]  # keeps the last space of each run
    return pl.Series([codes.tobytes()], dtype=pl.Binary)


def encoded(folded: str) -> str | None:
    """Encodes tokens that are separated by one space; None if a character has no code.

    >>> encoded("top up"), encoded("c + +"), encoded("naïve")
    ('top up', 'c . .', None)
    """
    codes = [_code(char) for char in folded]
    return None if NO_CODE in codes else "".join(codes)


def whole_word_codes(code: str) -> Iterator[str]:
    """Yields the patterns that together find a code where it begins and ends at word boundaries."""
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
    return _joined(texts.str.replace_all(ROW, NO_CODE, literal=True))


def _write_ascii(buffer: bytearray) -> None:
    """Replaces quotes, dashes and similar signs, in place, by ASCII characters with the same normal form."""
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


def _resolve_second_bytes(bytes_: NDArray[np.uint8]) -> None:
    """Makes second bytes unambiguous, in place: replaces ё by е, and other Cyrillic letters by `NO_CODE`."""
    first, second = bytes_[:-1], bytes_[1:]
    # Second bytes are 0x80 or more. Those of Russian letters except ё are 0x90 or more after 0xD0, less after 0xD1.
    where = np.flatnonzero((first ^ _LEAD_D0) == (second >= 0x90))
    yo = second[where] == np.where(first[where] == _LEAD_D1, _SMALL_YO, _LARGE_YO)
    second[where[yo]] = _SECOND_OF_YE
    first[where[~yo]] = ord(NO_CODE)


def _code(char: str) -> str:
    if not normalize(char):
        return NO_CODE
    found = tokens(char)
    if not found:
        return " "
    folded = found[0]
    if folded in _LETTERS:
        return _LETTERS[folded]
    if not folded.isascii():
        return SIGN if folded in _ascii_texts() else NO_CODE
    if not folded.isprintable():
        return NO_CODE
    return folded if folded.isalnum() or folded == "_" else SIGN


@cache
def _ascii_texts() -> dict[str, str]:
    """Returns characters that an ASCII text with the same tokens can replace, without needing more bytes."""
    characters = pl.Series([*map(chr, (*range(0x80, 0xC0), *range(0x2000, 0x3000), *range(0x1F000, 0x1FB00)))])
    found = {}
    for char in characters.filter(characters.str.contains(f"[{NEUTRAL}]")):
        kinds = {unicodedata.category(token)[0] if len(token) == 1 else "L" for token in tokens(char)}
        text = SIGN * len(tokens(char)) if kinds and not kinds & set("LMNC") else normalize(char)
        if text.isascii() and len(text) <= len(char.encode()):
            found[char] = text
    return found


@cache
def _ascii_table() -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    """Returns code points, ascending, and their ASCII texts, padded to four bytes each."""
    codes = np.array([ord(char) for char in _ascii_texts()], dtype=np.int64)
    padded = b"".join(text.encode().ljust(4, bytes((_PADDING,))) for text in _ascii_texts().values())
    return codes, np.frombuffer(padded, dtype=np.uint8).reshape(-1, 4)


def _table() -> bytes:
    """Returns the code of each byte; the second byte of a Russian letter has the letter's code."""
    codes = [NO_CODE] * 256
    codes[:128] = [_code(chr(code)) for code in range(128)]
    codes[ord(ROW)] = ROW
    codes[0x80:0x90] = [_code(chr(0x440 + i)) for i in range(16)]
    codes[0x90:0xC0] = [_code(chr(0x410 + i)) for i in range(48)]
    return "".join(codes).encode("ascii")


_TABLE = _table()
