"""Random texts full of personal data, valid and almost valid, written as people and programs do, and run together."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from stdnum import iban, luhn
from stdnum.ru import inn

NAMES = ("Анна", "Смирнова", "Семёнов", "Анна Мария", "John Smith", "Мария-Луиза", "Ёлкина", "O'Neil", "Ψυχή", "Zoë")
_WORDS = (
    "перевод", "счёт", "card", "№", "от", "руб.", "тел:", "И", "аннамария", "анна7", "ÄÖ", "ﬁx", "naïve", "e\u0301t",
    "12.05.2026", "2026-05-12", "1/2/2019", "x" * 70, "\U0001d7ce", "٣", "５", "①", "²", "😀", "_", "..", "ivan", "@", "a@b",
)  # fmt: skip
_GAPS = (
    "", "", "", " ", " ", "-", ".", "/", " (", ") ", "*", "_", "\u00a0", "\u2011", "\u200b", "－", "  ", " - ", "\n", "     ",
    "\u202f", "·", ",", ":", "x",
)  # fmt: skip
_BEFORE = ("", "", "", "", "+", "(", "+(", "((", "+ (", "7", "8 ", "№", "a", "@", "1.", "0")
_SIZES = (
    (3, 3, 2, 2),
    (1, 3, 3, 2, 2),
    (4, 4, 4, 4),
    (4, 6, 5),
    (11,),
    (10,),
    (12,),
    (16,),
    (3, 3, 3, 2),
    (9, 2),
    (1,) * 20,
)


def personal_texts(count: int, *, seed: int = 0) -> Iterator[str]:
    """Yields texts; the same for a seed."""
    rng = random.Random(seed)
    for _ in range(count):
        pieces = [rng.choice(_PIECES)(rng) for _ in range(rng.randrange(1, 6))]
        yield "".join(piece + rng.choice((" ", " ", " ", ", ", "", "\n")) for piece in pieces)


def _digits(rng: random.Random, size: int) -> str:
    return "".join(rng.choices("0123456789", k=size))


def _word(rng: random.Random) -> str:
    return rng.choice(_WORDS)


def _name(rng: random.Random) -> str:
    name = rng.choice(NAMES)
    name = name.replace(" ", rng.choice((" ", "  ", ", ", "    ")))
    return rng.choice((str, str.upper, str.lower, str.title))(name) + rng.choice(("", "", "а", "-Иванова", "!"))


def _email(rng: random.Random) -> str:
    user = rng.choice(("ivan.petrov+1", "a", "8903123", "почта", "x" * 66, "a_b-c", ""))
    return f"{user}{rng.choice('@@@＠')}{rng.choice(('mail.example', 'пример.рф', 'x', 'a.b.c.1', '12.05.2026'))}"


def _iban(rng: random.Random) -> str:
    country, size = rng.choice((("DE", 18), ("FI", 14), ("PL", 24), ("NO", 11), ("GB", 18), ("XX", 18)))
    account = ("WEST" + _digits(rng, 14)) if country == "GB" else _digits(rng, size)
    number = f"{country}{iban.calc_check_digits(f'{country}00{account}')}{account}"
    number = rng.choice((str, str, str, str.lower, lambda text: text[:-1] + "7"))(number)
    return rng.choice(("", "", " ", "-")).join(number[i : i + 4] for i in range(0, len(number), 4))


def _number(rng: random.Random) -> str:
    return rng.choice(_BEFORE) + _written(rng, rng.choice(_NUMBERS)(rng))


def _card(rng: random.Random) -> str:
    body = rng.choice("234569") + _digits(rng, rng.choice((11, 13, 14, 14, 14, 14, 16, 17)))
    return body + luhn.calc_check_digit(body)


def _phone(rng: random.Random) -> str:
    return (
        rng.choice(("7", "8", "", "", "1", "49", "375", "0"))
        + rng.choice(("903", "495", "202", "800", "000"))
        + _digits(rng, 7)
    )


def _taxpayer(rng: random.Random) -> str:
    if rng.random() < 0.5:
        body = _digits(rng, 9)
        return body + inn.calc_company_check_digit(body)
    body = _digits(rng, 10)
    return body + inn.calc_personal_check_digits(body)


def _snils(rng: random.Random) -> str:
    body = _digits(rng, 9)
    return body + f"{sum(int(d) * w for d, w in zip(body, range(9, 0, -1), strict=True)) % 101 % 100:02d}"


def _written(rng: random.Random, digits: str) -> str:
    """Puts gaps into a number: as in one of the usual forms, or anywhere."""
    fitting = [sizes for sizes in _SIZES if sum(sizes) == len(digits)]
    one = rng.choice(_GAPS)
    if fitting and rng.random() < 0.6:
        sizes = rng.choice(fitting)
    else:
        sizes = tuple(rng.randrange(1, 6) for _ in range(len(digits)))
    pieces, at = [], 0
    for size in sizes:
        if at >= len(digits):
            break
        pieces.append(digits[at : at + size])
        at += size
    same = rng.random() < 0.7
    text = "".join(piece + (one if same else rng.choice(_GAPS)) for piece in pieces[:-1]) + pieces[-1]
    if rng.random() < 0.03:
        text = text.translate({ord("0") + i: 0xFF10 + i for i in range(10)})
    return text


_NUMBERS: tuple[Callable[[random.Random], str], ...] = (
    _card, _card, _phone, _phone, _taxpayer, _snils, lambda rng: _digits(rng, rng.randrange(1, 24)),
)  # fmt: skip
_PIECES: tuple[Callable[[random.Random], str], ...] = (_word, _word, _name, _email, _iban, _number, _number, _number)
