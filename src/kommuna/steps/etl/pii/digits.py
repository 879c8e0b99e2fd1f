"""Recognises cards, taxpayer numbers, SNILS and phones in sequences of digits."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache, lru_cache

from stdnum.ru import inn

from kommuna.steps.etl.pii.found import Found
from kommuna.steps.etl.pii.shapes import (
    DIGITS,
    FEWEST_CARD_DIGITS,
    Form,
    NumberPlace,
    card_places,
    number_places,
    sequences,
    shape,
)

_PLAIN = re.compile(r"[\0-\u065F\u2000-\u20FF]*")  # has no other forms of digits and punctuation
# Days as 12.05.2026 and 2026-05-12: not digits of a card or phone, unless the same separator goes on.
_DAY = "|".join(
    rf"(?<![0-9]{mark})(?:(?:0?[1-9]|[12][0-9]|3[01]){mark}(?:0?[1-9]|1[0-2]){mark}(?:19|20)[0-9]{{2}}"
    rf"|(?:19|20)[0-9]{{2}}{mark}(?:0?[1-9]|1[0-2]){mark}(?:0?[1-9]|[12][0-9]|3[01]))(?!{mark}?[0-9])"
    for mark in (r"\.", "-", "/")
)
_DAYS = re.compile(rf"(?<![0-9+])(?:{_DAY})")
# Issuer prefixes and lengths (ISO/IEC 7812; the networks' own pages): Visa, Mastercard, Mir, American Express,
# UnionPay, JCB, Diners Club, Discover. Maestro (50, 56 to 69) is left out: amounts of 5000 look like it.
_ISSUED = re.compile(
    r"4(?:[0-9]{12}|[0-9]{15}|[0-9]{18})"
    r"|(?:5[1-5][0-9]{2}|222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}"
    r"|220[0-4][0-9]{12,15}|3[47][0-9]{13}|62[0-9]{14,17}|35[2-8][0-9][0-9]{12,15}"
    r"|3(?:0[0-5]|095|[689][0-9])[0-9]{11,16}|6(?:011|4[4-9][0-9]|5[0-9]{2})[0-9]{12,15}"
)
_DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")  # digit by digit, the sum of the doubled digit's digits
_CACHED = 64  # characters of a sequence whose numbers are kept


def plain_digits(text: str) -> str:
    """Returns a text of the same length with ASCII digits and ASCII punctuation for their other forms."""
    return text if _PLAIN.fullmatch(text) else text.translate(_plain())


@cache
def _plain() -> dict[int, str]:
    other = {0xFF01 + i: chr(0x21 + i) for i in range(94)}  # full-width ASCII
    digits = (char for char in map(chr, range(0x80, 0x20000)) if char.isdecimal())
    return other | {ord(char): str(unicodedata.decimal(char)) for char in digits}


def numbers(text: str, taken: bytearray, region: str) -> list[Found]:
    """Returns the numbers in a text: for each sequence of digits, cards of known issuers, other cards, then the rest.

    Args:
        text: any text, with plain digits.
        taken: one byte per character; numbers that begin at a 1 are left out.
        region: country of phone numbers without a country code.
    """
    found: list[Found] = []
    for at, end in sequences(text):
        sequence = text[at:end]
        left_out = [day.span() for day in _DAYS.finditer(sequence)] if "20" in sequence or "19" in sequence else []
        if taken.find(1, at, end) >= 0:
            left_out += [(i, i + 1) for i in range(end - at) if taken[at + i]]
        if left_out:
            sequence = _without(sequence, left_out)
        find = _numbers_of_short if len(sequence) <= _CACHED else _numbers
        found += [(at + start, at + end, kind) for start, end, kind in find(sequence, region)]
    return found


def _without(sequence: str, spans: Sequence[tuple[int, int]]) -> str:
    """Returns a sequence with letters for the groups of digits that begin within spans."""
    begins = {at for span in spans for at in range(*span)}
    return DIGITS.sub(lambda group: "x" * len(group[0]) if group.start() in begins else group[0], sequence)


@lru_cache(maxsize=10_000)
def _numbers_of_short(sequence: str, region: str) -> Sequence[Found]:
    return _numbers(sequence, region)


def _numbers(sequence: str, region: str) -> Sequence[Found]:
    found: list[Found] = []
    outline, digits = shape(sequence), _digits(sequence)
    for issued in (True, False) if len(digits) >= FEWEST_CARD_DIGITS else ():
        if cards := _cards(card_places(outline), digits, issued=issued):
            found += cards
            if cards[0][:2] == (0, len(sequence)):
                return found
            sequence = _without(sequence, [(start, end) for start, end, _ in cards])
            outline, digits = shape(sequence), _digits(sequence)
    end = 0
    for start, places in number_places(outline):
        if start < end:
            continue
        for place in places:
            kind, valid = _NUMBERS[place.form]
            if valid(digits[place.first : place.last], region):
                found.append((place.start, place.end, kind))
                end = place.end
                break
    return found


def _cards(places: Iterable[NumberPlace], digits: str, *, issued: bool) -> list[Found]:
    """Finds 13 to 19 digits that pass the Luhn check (ISO/IEC 7812-1).

    They are solid or grouped as on a card; the digits of a known issuer's card may be separated anywhere.
    Overlapping cards are merged, so that no part of a card's number next to other digits is left.
    """
    cards: list[Found] = []
    merged = 0  # up to here
    for form, start, end, first, last in places:
        number = digits[first:last]
        if (form == "card" and not issued) or bool(_ISSUED.fullmatch(number)) != issued:
            continue
        if number.strip("0") == "" or not _passes_luhn(number):
            continue
        if start < merged:
            start, end = cards.pop()[0], max(end, merged)
        cards.append((start, end, "CARD"))
        merged = end
    return cards


def _passes_luhn(number: str) -> bool:
    # Not `stdnum.luhn`, which takes five times as long: a third of the time of a card.
    digits = number.encode()
    return (sum(digits[-1::-2]) + sum(digits[-2::-2].translate(_DOUBLED)) - ord("0") * len(digits)) % 10 == 0


def _digits(sequence: str) -> str:
    return "".join(DIGITS.findall(sequence))


def _is_taxpayer(number: str, region: str) -> bool:
    if len(number) == 10:
        return number.strip("0") != "" and number[-1] == inn.calc_company_check_digit(number)
    return number.strip("0") != "" and number[-2:] == inn.calc_personal_check_digits(number)


def _is_snils(number: str, region: str) -> bool:
    """Whether 11 digits have the check digits of a SNILS.

    The check number is the sum of the first nine digits, weighted 9 to 1, modulo 101, where 100 is written 00
    (decree 192p of the Pension Fund, 2006).
    """
    check = sum(int(digit) * weight for digit, weight in zip(number, range(9, 0, -1), strict=False)) % 101 % 100
    return int(number[9:]) == check and int(number[:9]) > 1_001_998


def _is_solid_snils(number: str, region: str) -> bool:
    """Whether 11 solid digits are a SNILS and not a Russian phone."""
    return _is_snils(number, region) and not (number[0] in "78" and _is_phone(number, "RU"))


def _is_international(number: str, region: str) -> bool:
    return _is_phone("+" + number, region)


def _is_prefixed(number: str, region: str) -> bool:
    """Whether a number whose first digit stands alone is a phone: an amount such as 7 123 456 123 is not."""
    _, code, trunk = _plan(region)
    prefix = trunk == "0" if number[0] == "0" else number[0] in (code, trunk) and len(number) == 11
    return prefix and _is_phone(number, region)


@lru_cache(maxsize=10_000)
def _is_phone(number: str, region: str) -> bool:
    """Whether a number is in use by its country's numbering plan."""
    import phonenumbers

    mobile, code, trunk = _plan(_country(number) if number[0] == "+" else region)
    for prefix in ("+" + code,) if number[0] == "+" else ("", code, trunk):
        if prefix is not None and number.startswith(prefix) and mobile.fullmatch(number, len(prefix)):
            return True  # fast path for most numbers: the library takes 0.1 ms per number
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number, region))
    except phonenumbers.NumberParseException:
        return False


def _country(number: str) -> str:
    """Returns the region, or the largest of those, to which a number with a plus belongs; ZZ if to none."""
    from phonenumbers import COUNTRY_CODE_TO_REGION_CODE

    for end in (2, 3, 4):
        if regions := COUNTRY_CODE_TO_REGION_CODE.get(int(number[1:end])):
            return str(regions[0])
    return "ZZ"


@cache
def _plan(region: str) -> tuple[re.Pattern[str], str, str | None]:
    """Returns a region's pattern of mobile numbers (without prefix), its country code and its trunk prefix."""
    from phonenumbers import PhoneMetadata

    plan = PhoneMetadata.metadata_for_region(region)
    if plan is None or plan.mobile is None or plan.mobile.national_number_pattern is None:
        return re.compile(r"(?!)"), "", None
    return re.compile(plan.mobile.national_number_pattern), str(plan.country_code), plan.national_prefix


_NUMBERS: dict[Form, tuple[str, Callable[[str, str], bool]]] = {
    "inn": ("INN", _is_taxpayer),
    "snils": ("SNILS", _is_snils),
    "solid snils": ("SNILS", _is_solid_snils),
    "international": ("PHONE", _is_international),
    "phone": ("PHONE", _is_phone),
    "prefixed phone": ("PHONE", _is_prefixed),
}
