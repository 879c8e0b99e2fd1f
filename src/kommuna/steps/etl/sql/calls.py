"""Calls and divisors as Polars has to read them, to mean what standard SQL means."""

from __future__ import annotations

import re

from kommuna.errors import SpecError

WIDE = "CAST(0 AS BIGINT)"


def divisor(text: str, *, exact: bool) -> str:
    """The divisor, null where it is 0; of floats unless the division is exact."""
    text = text.strip()
    if re.fullmatch(r"[\d.]*[1-9][\d.]*(?:[eE][+-]?\d+)?", text):
        return text if exact or "e" in text.lower() else f"{text}e0"
    return f"NULLIF({text}, 0)" if exact else f"NULLIF(({text}) * 1e0, 0)"


def decimal_places(size: str) -> int | None:
    """The digits behind the point of a type DECIMAL(digits, places); None where it is without numbers."""
    numbers = re.fullmatch(r"\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)", size)
    if numbers is None:
        return None
    digits, places = int(numbers[1][:9]), int((numbers[2] or "0")[:9])
    if not max(1, places) <= digits <= 38:
        raise SpecError(
            f"no type DECIMAL{size}: it has 1 to 38 digits, of which no more stand behind the point",
            fix="write DECIMAL(18, 2)",
        )
    return places


def position(text: str, part: str) -> str:
    """The place in characters; Polars' STRPOS counts bytes, and is 0 for null."""
    text, part = text.strip(), part.strip()
    found = f"STRPOS({text}, {part})"
    return (
        f"(CASE WHEN {found} > 1 THEN LENGTH(SPLIT_PART({text}, {part}, 1)) + 1 + {WIDE}"
        f" WHEN ({text}) IS NULL OR ({part}) IS NULL THEN NULL ELSE {found} + {WIDE} END)"
    )


def round_half_up(arguments: list[str]) -> str:
    """Halves away from zero; Polars' ROUND takes those of floats to the even number."""
    value, places = arguments[0], arguments[1] if len(arguments) == 2 else "0"
    if len(arguments) > 2 or not re.fullmatch(r"\d+", places):
        raise SpecError(
            f"ROUND({', '.join(arguments)}): the number of decimals is not 0 or more, written out",
            fix="write it as a number, as in ROUND(amount, 2); for tens, ROUND(amount / 10) * 10",
        )
    if not re.fullmatch(r'[\w."`]+', value):
        value = f"({value})"
    scaled = f"({value} * 1e{int(places)})" if int(places) else value
    half = f"(TRUNC({scaled}) + SIGN({scaled}))" + (f" / 1e{int(places)}" if int(places) else "")
    native = f"ROUND({value}, {places})" if int(places) else f"ROUND({value})"  # of decimals it is right
    return f"(CASE WHEN ABS({scaled} - TRUNC({scaled})) = 0.5e0 THEN {half} ELSE {native} END)"


def coalesce(arguments: list[str]) -> str:
    """COALESCE as CASE: of a constant that comes first, Polars makes as many rows as the other arguments have nulls."""
    *cases, last = arguments
    return f"(CASE {' '.join(f'WHEN ({value}) IS NOT NULL THEN {value}' for value in cases)} ELSE {last} END)"
