"""Rewrites calls and divisors so that Polars computes what standard SQL means by them."""

from __future__ import annotations

import re

from kommuna.errors import SpecError

ZERO_BIGINT = "CAST(0 AS BIGINT)"


def divisor(text: str, *, exact: bool) -> str:
    """Rewrites a divisor to be null instead of 0.

    Args:
        text: the divisor.
        exact: whether the division keeps integers and decimals; otherwise it divides floats.
    """
    text = text.strip()
    if re.fullmatch(r"[\d.]*[1-9][\d.]*(?:[eE][+-]?\d+)?", text):
        return text if exact or "e" in text.lower() else f"{text}e0"
    return f"NULLIF({text}, 0)" if exact else f"NULLIF(({text}) * 1e0, 0)"


def decimal_places(size: str) -> int | None:
    """Returns the number of decimal places of a type `DECIMAL(digits, places)`.

    Args:
        size: the type's numbers with their parentheses.

    Returns:
        The decimal places; None if the type has no numbers.

    Raises:
        SpecError: there is no such type.
    """
    numbers = re.fullmatch(r"\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\)", size)
    if numbers is None:
        return None
    digits, places = int(numbers[1][:9]), int((numbers[2] or "0")[:9])
    if not max(1, places) <= digits <= 38:
        raise SpecError(
            f"DECIMAL{size} is not a valid type: it has 1 to 38 digits, and no more decimal places than digits",
            fix="write DECIMAL(18, 2)",
        )
    return places


def position(text: str, part: str) -> str:
    """Rewrites POSITION to count characters: Polars' STRPOS counts bytes, and returns 0 for null."""
    text, part = text.strip(), part.strip()
    found = f"STRPOS({text}, {part})"
    return (
        f"(CASE WHEN {found} > 1 THEN LENGTH(SPLIT_PART({text}, {part}, 1)) + 1 + {ZERO_BIGINT}"
        f" WHEN ({text}) IS NULL OR ({part}) IS NULL THEN NULL ELSE {found} + {ZERO_BIGINT} END)"
    )


def round_half_up(arguments: list[str]) -> str:
    """Rewrites ROUND to round halves away from zero: Polars rounds halves of floats to even.

    Raises:
        SpecError: the number of decimals is not a literal, or is negative.
    """
    value, places = arguments[0], arguments[1] if len(arguments) == 2 else "0"
    if len(arguments) > 2 or not re.fullmatch(r"\d+", places):
        raise SpecError(
            f"ROUND({', '.join(arguments)}): the number of decimals must be a literal, 0 or more",
            fix="write it as a number, as in ROUND(amount, 2); for tens, ROUND(amount / 10) * 10",
        )
    if not re.fullmatch(r'[\w."`]+', value):
        value = f"({value})"
    scaled = f"({value} * 1e{int(places)})" if int(places) else value
    half = f"(TRUNC({scaled}) + SIGN({scaled}))" + (f" / 1e{int(places)}" if int(places) else "")
    native = f"ROUND({value}, {places})" if int(places) else f"ROUND({value})"  # correct for decimals
    return f"(CASE WHEN ABS({scaled} - TRUNC({scaled})) = 0.5e0 THEN {half} ELSE {native} END)"


def coalesce(arguments: list[str]) -> str:
    """Rewrites COALESCE as CASE: with a constant first, Polars returns as many rows as the others have nulls."""
    *cases, last = arguments
    return f"(CASE {' '.join(f'WHEN ({value}) IS NOT NULL THEN {value}' for value in cases)} ELSE {last} END)"
