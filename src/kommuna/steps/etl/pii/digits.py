"""Recognises cards, taxpayer numbers, SNILS and phones in groups of digits."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from itertools import pairwise
from typing import NamedTuple

from stdnum import luhn
from stdnum.ru import inn

# The shape of a number: decimal digits of any script, between which people and programs put separators. Ranges by code
# points, which Python and Rust both read: hyphens and dashes, the minus, invisible characters, full-width punctuation.
DIGIT = r"\p{Nd}"  # in Python, digits are made plain first (`plain_digits`)
GAP = (
    r"[\s().*_\-/\u00AD\u00B7\u2010-\u2015\u2022\u2212\u200B-\u200D\u2060\uFEFF"
    r"\uFF08-\uFF0A\uFF0D-\uFF0F\uFF3F]"
)
LONGEST_GAP = 4  # characters
_CARD_GAP = re.compile(rf"(?![()/]){GAP}(?:(?![()/]){GAP}){{0,{LONGEST_GAP - 1}}}")
_DIGITS = re.compile(r"[0-9]+")
_CARD_GROUPS = {(4, 4, 4, 4), (4, 6, 5), (4, 6, 4), (4, 4, 4, 4, 3)}
_SNILS_GROUPS = {(11,), (3, 3, 3, 2), (9, 2)}
_GAPS = {  # between two groups of each kind of number
    "card": _CARD_GAP,
    "phone": re.compile(rf"{GAP}{{1,{LONGEST_GAP}}}"),
    "snils": _CARD_GAP,
}
_FEWEST_DIGITS = 10  # of an INN, and of a phone without a prefix
_MOST_CARD_DIGITS = 19
_MOST_CARD_GROUPS = 6  # of different sizes; a list such as 3 4 5 … 13 has more
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

_FIRST_DIGITS = "23456"

Group = tuple[int, int]


class Found(NamedTuple):
    """A match in a text: characters `start` to `end`, and the kind of data."""

    start: int
    end: int
    kind: str


def plain_digits(text: str) -> str:
    """Returns a text of the same length with ASCII digits and ASCII punctuation for their other forms."""
    return text if text.isascii() else text.translate(_plain())


@cache
def _plain() -> dict[int, str]:
    other = {0xFF01 + i: chr(0x21 + i) for i in range(94)}  # full-width ASCII
    digits = (char for char in map(chr, range(0x80, 0x20000)) if char.isdecimal())
    return other | {ord(char): str(unicodedata.decimal(char)) for char in digits}


def numbers(text: str, taken: Sequence[int], region: str) -> Iterable[Found]:
    """Yields the numbers in a text: cards of known issuers, then other cards, then the rest from left to right.

    Args:
        text: any text, with plain digits.
        taken: one byte per character; numbers that begin at a non-zero byte are left out.
        region: country of phone numbers without a country code.
    """
    groups = [match.span() for match in _DIGITS.finditer(text)]
    if sum(end - start for start, end in groups) < _FEWEST_DIGITS:
        return
    days = {at for day in _DAYS.finditer(text) for at in range(*day.span())} if "20" in text or "19" in text else set()
    groups = [group for group in groups if not taken[group[0]] and group[0] not in days]
    for issued in (True, False):
        cards = _cards(text, groups, issued=issued)
        yield from cards
        groups = [group for group in groups if not any(card.start <= group[0] < card.end for card in cards)]
    at = 0
    while at < len(groups):
        found = _number_at(text, groups, at, region)
        if found is None:
            at += 1
            continue
        yield found
        while at < len(groups) and groups[at][0] < found.end:
            at += 1


def _cards(text: str, groups: Sequence[Group], *, issued: bool) -> list[Found]:
    """Finds 13 to 19 digits that pass the Luhn check (ISO/IEC 7812-1).

    They are solid or grouped as on a card; the digits of a known issuer's card may be separated anywhere.
    Overlapping cards are merged, so that no part of a card's number next to other digits is left.
    """
    cards: list[Found] = []
    for at, group in enumerate(groups):
        for run in _card_runs(text, groups, at, anyhow=issued and text[group[0]] in _FIRST_DIGITS):
            number = _digits(text, run)
            if not 13 <= len(number) <= 19 or bool(_ISSUED.fullmatch(number)) != issued:
                continue
            if number.strip("0") == "" or not luhn.is_valid(number):
                continue
            start, end = run[0][0], run[-1][1]
            if cards and start < cards[-1].end:
                start, end = cards[-1].start, max(end, cards[-1].end)
                cards.pop()
            cards.append(Found(start, end, "CARD"))
    return cards


def _card_runs(text: str, groups: Sequence[Group], at: int, *, anyhow: bool) -> Iterable[Sequence[Group]]:
    """Yields the runs of groups from a group on that may be a card: grouped as on a card, or anyhow."""
    sizes = [groups[at][1] - groups[at][0]]
    digits = sizes[0]
    if digits >= 13:
        yield groups[at : at + 1]
    for last in range(at + 1, min(at + (_MOST_CARD_DIGITS if anyhow else 5), len(groups))):
        if not _joins("card", text[groups[last - 1][1] : groups[last][0]]):
            return
        sizes.append(groups[last][1] - groups[last][0])
        digits += sizes[-1]
        if digits > _MOST_CARD_DIGITS:
            return
        run = groups[at : last + 1]
        usual = tuple(sizes) in _CARD_GROUPS and len(_gaps(text, run)) == 1
        if digits >= 13 and (usual or (anyhow and (len(run) <= _MOST_CARD_GROUPS or len(set(sizes[:-1])) == 1))):
            yield run


def _gaps(text: str, run: Sequence[Group]) -> set[str]:
    return {text[a[1] : b[0]] for a, b in pairwise(run)}


def _number_at(text: str, groups: Sequence[Group], at: int, region: str) -> Found | None:
    """Returns the longest run of groups from a group on that is an INN, a SNILS or a phone."""
    runs = [run] if (run := _spelled(text, groups, at)) else []
    digits = 0
    for last in range(at, min(at + 8, len(groups))):
        if last > at and not _joins("phone", text[groups[last - 1][1] : groups[last][0]]):
            break
        digits += groups[last][1] - groups[last][0]
        if digits > 15:
            break
        if digits >= 10:
            runs.append(groups[at : last + 1])
    for run in reversed(runs):
        if _is_taxpayer(text, run):
            return Found(run[0][0], run[-1][1], "INN")
        if _is_snils(text, run):
            return Found(run[0][0], run[-1][1], "SNILS")
    for run in reversed(runs):
        start = _phone_start(text, run, region)
        if start is not None:
            return Found(start, run[-1][1], "PHONE")
    return None


def _spelled(text: str, groups: Sequence[Group], at: int) -> Sequence[Group]:
    """Returns 10 to 15 single digits with separators that begin at a group; empty if there are more or fewer."""

    def goes_on(last: int) -> bool:
        (start, end), (following, its_end) = groups[last], groups[last + 1]
        return end - start == its_end - following == 1 and _joins("phone", text[end:following])

    if groups[at][1] - groups[at][0] != 1 or (at and goes_on(at - 1)):
        return ()
    last = at
    while last + 1 < len(groups) and last - at < 15 and goes_on(last):
        last += 1
    return groups[at : last + 1] if 10 <= last + 1 - at <= 15 else ()


def _is_taxpayer(text: str, run: Sequence[Group]) -> bool:
    """Whether a run is 10 or 12 solid digits with the check digits of an INN; after a plus they are a phone."""
    start, end = run[0]
    if len(run) > 1 or end - start not in (10, 12) or text[start - 1 : start] == "+":
        return False
    return text[start:end].strip("0") != "" and bool(inn.is_valid(text[start:end]))


def _is_snils(text: str, run: Sequence[Group]) -> bool:
    """Whether a run is 11 digits, solid or as 123-456-789 64, with the check digits of a SNILS.

    A solid number that is also a Russian phone counts as a phone. The check number is the sum of the first nine
    digits, weighted 9 to 1, modulo 101, where 100 is written 00 (decree 192p of the Pension Fund, 2006).
    """
    sizes = tuple(end - start for start, end in run)
    if sizes not in _SNILS_GROUPS or not all(_joins("snils", text[a[1] : b[0]]) for a, b in pairwise(run)):
        return False
    number = _digits(text, run)
    if sizes == (11,) and (text[run[0][0] - 1 : run[0][0]] == "+" or (number[0] in "78" and _is_phone(number, "RU"))):
        return False
    check = sum(int(digit) * weight for digit, weight in zip(number, range(9, 0, -1), strict=False)) % 101 % 100
    return int(number[:9]) > 1_001_998 and int(number[9:]) == check


def _phone_start(text: str, run: Sequence[Group], region: str) -> int | None:
    """Returns where a phone begins (at its plus or bracket); None if the groups are not a phone."""
    start = run[0][0]
    sizes = [b - a for a, b in run]
    number = _digits(text, run)
    bracket = 1 if text[start - 1 : start] == "(" and start > 0 else 0
    if text[start - 1 - bracket : start - bracket] == "+" and start > bracket:
        return start - 1 - bracket if _is_phone("+" + number, region) else None
    spelled = max(sizes) == 1
    if (
        sizes[0] == 1
        and not spelled
        and (len(sizes) == 1 or sizes[1] < 3 or not _is_prefix(text[start], len(number), region))
    ):
        return None
    if (sizes[0] == 1 or sizes[0] >= 3) and _is_phone(number, region):
        return start - bracket
    return None


def _is_prefix(digit: str, length: int, region: str) -> bool:
    """Whether a single digit may be the prefix of a phone: an amount such as 7 123 456 123 is not a phone."""
    _, code, trunk = _plan(region)
    if digit == "0":
        return trunk == "0"
    return digit in (code, trunk) and length == 11


@lru_cache(maxsize=50_000)
def _is_phone(number: str, region: str) -> bool:
    """Whether a number is in use by its country's numbering plan."""
    import phonenumbers

    mobile, code, trunk = _plan(region)
    for prefix in ("+" + code,) if number[0] == "+" else ("", code, trunk):
        if prefix is not None and number.startswith(prefix) and mobile.fullmatch(number, len(prefix)):
            return True  # fast path for most numbers: the library takes 0.1 ms per number
    try:
        return phonenumbers.is_valid_number(phonenumbers.parse(number, region))
    except phonenumbers.NumberParseException:
        return False


@cache
def _plan(region: str) -> tuple[re.Pattern[str], str, str | None]:
    """Returns a region's pattern of mobile numbers (without prefix), its country code and its trunk prefix."""
    from phonenumbers import PhoneMetadata

    plan = PhoneMetadata.metadata_for_region(region)
    if plan is None or plan.mobile is None or plan.mobile.national_number_pattern is None:
        return re.compile(r"(?!)"), "", None
    return re.compile(plan.mobile.national_number_pattern), str(plan.country_code), plan.national_prefix


@lru_cache(maxsize=10_000)
def _joins(kind: str, gap: str) -> bool:
    """Whether the text between two groups of digits may separate groups of one number."""
    return len(gap) <= LONGEST_GAP and _GAPS[kind].fullmatch(gap) is not None


def _digits(text: str, run: Sequence[Group]) -> str:
    return "".join([text[start:end] for start, end in run])
