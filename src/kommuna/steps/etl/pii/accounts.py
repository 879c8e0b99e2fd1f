"""Finds IBANs in texts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from stdnum import iban
from stdnum.iso7064 import mod_97_10

from kommuna.steps.etl.pii.found import Found
from kommuna.steps.etl.pii.shapes import GAP, LONGEST_GAP

_SHORTEST = 15  # characters
_IBAN = re.compile(rf"(?<![^\W_])[A-Za-z]{{2}}[0-9]{{2}}(?:{GAP}{{0,{LONGEST_GAP}}}[A-Za-z0-9]){{{_SHORTEST - 4},30}}")
_LETTERS, _DIGITS = re.compile("[A-Z]"), re.compile("[0-9]")


def ibans(text: str) -> Iterator[Found]:
    """Yields the IBANs (ISO 13616) in a text with plain digits, in any case and with separators anywhere."""
    at = 0
    while match := _IBAN.search(text, at):
        at = match.start() + 1
        end = match.end()
        while end - match.start() >= _SHORTEST:
            follows = text[end : end + 1]
            if text[end - 1].isalnum() and not (follows.isascii() and follows.isalnum()):
                number = "".join(filter(str.isalnum, text[match.start() : end])).upper()
                if mod_97_10.is_valid(number[4:] + number[:4]) and _is_shape(number[:2], _shape(number[4:])):
                    yield match.start(), end, "IBAN"
                    at = end
                    break
            end -= 1


def _shape(account: str) -> str:
    return _LETTERS.sub("A", _DIGITS.sub("0", account))


@lru_cache(maxsize=1_000)
def _is_shape(country: str, account: str) -> bool:
    """Whether a country's accounts have these letters and digits."""
    check = iban.calc_check_digits(f"{country}00{account}")
    return iban.is_valid(f"{country}{check}{account}", check_country=False)
