"""Synthetic personal data with valid checksums, which a masking step must find in the demo messages.

Phones are in ranges reserved for fiction (+1 202 555 01xx) or begin with 000, e-mails are in example domains, and card
and taxpayer numbers have unassigned prefixes.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from kommuna.demo.phrases import Bools, Ints

_MOBILE = np.array([903, 905, 909, 910, 915, 916, 917, 921, 925, 926, 960, 961, 963, 965, 967, 968, 977, 980, 985, 999])
# fmt: off
_FIRST_RU = [
    "Анна", "Мария", "Елена", "Ольга", "Ирина", "Наталья", "Светлана", "Татьяна", "Юлия", "Дарья",
    "Алексей", "Иван", "Сергей", "Дмитрий", "Андрей", "Михаил", "Павел", "Никита", "Олег", "Роман",
]
_LAST_RU = [
    "Смирнов", "Иванов", "Кузнецов", "Попов", "Соколов", "Лебедев", "Козлов", "Новиков", "Морозов", "Волков",
    "Павлов", "Семёнов", "Голубев", "Виноградов", "Фёдоров",
]
_FIRST_EN = [
    "Anna", "Maria", "Helen", "Olga", "Irene", "Natalie", "Julia", "Alex", "John", "Serge", "Michael", "Paul",
    "Nick", "Oleg", "Roman", "Kate",
]
_LAST_EN = [
    "Smith", "Brown", "Taylor", "Wilson", "Evans", "Walker", "White", "Green", "Baker", "Carter", "Ivanov", "Petrov",
    "Sokolov", "Morozov",
]
# fmt: on
_FEMALE_RU = 10  # the first ten names above are women's: their surnames end in -а
_DOMAINS = ("example.com", "example.org", "example.net")

NAMES = frozenset([*_FIRST_RU, *_LAST_RU, *(f"{name}а" for name in _LAST_RU), *_FIRST_EN, *_LAST_EN])


def make(kind: str, rng: np.random.Generator, russian: Bools) -> pl.Series:
    """Makes one synthetic value per row.

    Args:
        kind: one of `kommuna.demo.phrases.PII_KINDS`.
        rng: source of random numbers.
        russian: whether each row is in Russian; determines the format.
    """
    return _KINDS[kind](rng, russian)


def _phone(rng: np.random.Generator, russian: Bools) -> pl.Series:
    n = len(russian)
    home = russian | (rng.random(n) < 0.5)
    form = np.where(home, rng.integers(0, 6, n), 6 + rng.integers(0, 2, n))
    code, middle = _text(_MOBILE[rng.integers(0, len(_MOBILE), n)], 3), pl.lit("000")
    a, b = _text(rng.integers(0, 100, n), 2), _text(rng.integers(0, 100, n), 2)
    frame = pl.DataFrame({"form": form, "code": code, "a": a, "b": b, "last": _text(100 + rng.integers(0, 100, n), 4)})
    forms = [
        pl.format("+7{}{}{}{}", "code", middle, "a", "b"),
        pl.format("8{}{}{}{}", "code", middle, "a", "b"),
        pl.format("8 ({}) {}-{}-{}", "code", middle, "a", "b"),
        pl.format("+7 {} {} {} {}", "code", middle, "a", "b"),
        pl.format("+7 ({}) {}-{}-{}", "code", middle, "a", "b"),
        pl.format("8-{}-{}-{}-{}", "code", middle, "a", "b"),
        pl.format("+1 202 555 {}", "last"),
        pl.format("+1 (202) 555-{}", "last"),
    ]
    return _choose(frame, forms)


def _card(rng: np.random.Generator, russian: Bools) -> pl.Series:
    n = len(russian)
    prefix = np.array([220000, 400000, 555555])[rng.integers(0, 3, n)]
    digits = np.concatenate([_digits(prefix, 6), rng.integers(0, 10, (n, 9))], axis=1)
    doubled = digits.copy()
    doubled[:, ::2] *= 2  # the check digit follows, so that every second digit counts twice from the first on
    total = (doubled - 9 * (doubled > 9)).sum(axis=1)
    digits = np.concatenate([digits, ((10 - total % 10) % 10)[:, None]], axis=1)
    four = {f"q{i}": _text(_number(digits[:, 4 * i : 4 * i + 4]), 4) for i in range(4)}
    frame = pl.DataFrame({"form": rng.choice(3, n, p=[0.5, 0.35, 0.15]), **four})
    return _choose(frame, [pl.format(form, *four) for form in ("{} {} {} {}", "{}{}{}{}", "{}-{}-{}-{}")])


def _email(rng: np.random.Generator, russian: Bools) -> pl.Series:
    n = len(russian)
    frame = pl.DataFrame(
        {
            "form": rng.integers(0, 3, n),
            "first": _draw(rng, [name.lower() for name in _FIRST_EN], n),
            "last": _draw(rng, [name.lower() for name in _LAST_EN], n),
            "number": _text(rng.integers(1, 1000, n), 1),
            "domain": _draw(rng, _DOMAINS, n),
        }
    )
    forms = ["{}.{}@{}", "{}_{}@{}", "{}{}@{}"]
    return _choose(
        frame, [pl.format(f, "first", "number" if i == 2 else "last", "domain") for i, f in enumerate(forms)]
    )


def _name(rng: np.random.Generator, russian: Bools) -> pl.Series:
    n = len(russian)
    first = rng.integers(0, len(_FIRST_RU), n)
    frame = pl.DataFrame(
        {
            "form": np.where(russian, 0, 1),
            "first": pl.Series(_FIRST_RU).gather(pl.Series(first)),
            "last": _draw(rng, _LAST_RU, n),
            "ending": pl.Series(["а", ""]).gather(pl.Series((first >= _FEMALE_RU).astype(np.int64))),
            "first_en": _draw(rng, _FIRST_EN, n),
            "last_en": _draw(rng, _LAST_EN, n),
        }
    )
    return _choose(frame, [pl.format("{} {}{}", "first", "last", "ending"), pl.format("{} {}", "first_en", "last_en")])


def _iban(rng: np.random.Generator, russian: Bools) -> pl.Series:
    """Makes German and British numbers; by ISO 13616 the number with its head moved to the end is 1 modulo 97."""
    n = len(russian)
    british = rng.random(n) < 0.3
    bban = rng.integers(0, 10, (n, 18))
    german_rest = _modulo_97(bban, "131400")  # DE00
    british_rest = _modulo_97(bban[:, :14], "161100", head="13142224")  # GB00, bank DEMO
    check = _text(98 - np.where(british, british_rest, german_rest), 2)
    frame = pl.DataFrame(
        {
            "form": british.astype(np.int64),
            "check": check,
            "long": _join(bban),
            "short": _join(bban[:, :14]),
            "spaced": rng.random(n) < 0.5,
        }
    )
    solid = _choose(frame, [pl.format("DE{}{}", "check", "long"), pl.format("GB{}DEMO{}", "check", "short")])
    spaced = solid.str.replace_all(r"(.{4})", "${1} ").str.strip_chars()
    return frame.select(pl.when("spaced").then(spaced).otherwise(solid).alias("value")).to_series()


def _inn(rng: np.random.Generator, russian: Bools) -> pl.Series:
    """Makes taxpayer numbers: 12 digits for a person, 10 for a firm; region 00 is unassigned."""
    n = len(russian)
    body = np.concatenate([np.zeros((n, 2), np.int64), rng.integers(0, 10, (n, 8))], axis=1)
    eleventh = _weighted(body, [7, 2, 4, 10, 3, 5, 9, 4, 6, 8])
    longer = np.concatenate([body, eleventh[:, None]], axis=1)
    twelfth = _weighted(longer, [3, 7, 2, 4, 10, 3, 5, 9, 4, 6, 8])
    firm = _weighted(body[:, :9], [2, 4, 10, 3, 5, 9, 4, 6, 8])
    frame = pl.DataFrame(
        {
            "form": (rng.random(n) < 0.2).astype(np.int64),
            "person": _join(np.concatenate([longer, twelfth[:, None]], axis=1)),
            "firm": _join(np.concatenate([body[:, :9], firm[:, None]], axis=1)),
        }
    )
    return _choose(frame, [pl.col("person"), pl.col("firm")])


def _snils(rng: np.random.Generator, russian: Bools) -> pl.Series:
    """Makes pension insurance numbers; the last two digits are the weighted sum modulo 101, where 100 is written 00."""
    n = len(russian)
    digits = rng.integers(0, 10, (n, 9))
    digits[:, 0] = rng.integers(1, 10, n)  # numbers up to 001-001-998 have no check digits
    check = (digits * np.arange(9, 0, -1)).sum(axis=1) % 101 % 100
    three = {f"t{i}": _join(digits[:, 3 * i : 3 * i + 3]) for i in range(3)}
    frame = pl.DataFrame({"form": rng.integers(0, 2, n), **three, "check": _text(check, 2)})
    return _choose(frame, [pl.format("{}-{}-{} {}", *three, "check"), pl.format("{}{}{}{}", *three, "check")])


_KINDS: dict[str, Callable[[np.random.Generator, Bools], pl.Series]] = {
    "phone": _phone,
    "card": _card,
    "email": _email,
    "name": _name,
    "iban": _iban,
    "inn": _inn,
    "snils": _snils,
}


def _choose(frame: pl.DataFrame, forms: list[pl.Expr]) -> pl.Series:
    """Returns the format of each row that its column `form` selects."""
    value = pl.lit(None, pl.String)
    for number, form in enumerate(forms):
        value = pl.when(pl.col("form") == number).then(form).otherwise(value)
    return frame.select("form", value.alias("value"))["value"]


def _draw(rng: np.random.Generator, values: list[str] | tuple[str, ...], n: int) -> pl.Series:
    return pl.Series(values).gather(pl.Series(rng.integers(0, len(values), n)))


def _text(numbers: Ints, width: int) -> pl.Series:
    return pl.Series(numbers).cast(pl.String).str.zfill(width)


def _number(digits: Ints) -> Ints:
    value: Ints = digits @ (10 ** np.arange(digits.shape[1] - 1, -1, -1, dtype=np.int64))
    return value


def _digits(numbers: Ints, width: int) -> Ints:
    value: Ints = numbers[:, None] // 10 ** np.arange(width - 1, -1, -1, dtype=np.int64) % 10
    return value


def _join(digits: Ints) -> pl.Series:
    return _text(_number(digits), digits.shape[1])


def _weighted(digits: Ints, weights: list[int]) -> Ints:
    check: Ints = (digits * np.array(weights)).sum(axis=1) % 11 % 10
    return check


def _modulo_97(digits: Ints, tail: str, *, head: str = "") -> Ints:
    rest = np.full(len(digits), int(head or "0") % 97, dtype=np.int64)
    for column in range(digits.shape[1]):
        rest = (rest * 10 + digits[:, column]) % 97
    for digit in tail:
        rest = (rest * 10 + int(digit)) % 97
    return rest
