from __future__ import annotations

from pathlib import Path

import numpy as np
import phonenumbers
import polars as pl
import pytest
import stdnum.iban
import stdnum.luhn
import stdnum.ru.inn

from kommuna.demo import pii
from kommuna.demo.phrases import PII_KINDS


def values(kind: str, n: int = 2_000) -> list[str]:
    return pii.make(kind, np.random.default_rng(5), np.arange(n) % 3 > 0).to_list()


def snils_is_valid(text: str) -> bool:
    """The checksum by its definition: digits times 9 to 1, modulo 101, 100 written 00."""
    digits = [int(sign) for sign in text if sign.isdigit()]
    total = sum(digit * weight for digit, weight in zip(digits[:9], range(9, 0, -1), strict=True))
    return len(digits) == 11 and total % 101 % 100 == digits[9] * 10 + digits[10]


def test_the_checksum_of_a_known_snils() -> None:
    assert snils_is_valid("112-233-445 95")
    assert not snils_is_valid("112-233-445 94")


def test_phones_are_valid_in_every_form() -> None:
    phones = values("phone")
    assert all(phonenumbers.is_valid_number(phonenumbers.parse(phone, "RU")) for phone in phones)
    forms = {"".join("9" if sign.isdigit() else sign for sign in phone) for phone in phones}
    assert len(forms) == 8


def test_cards_pass_the_luhn_check_and_have_unassigned_prefixes() -> None:
    cards = values("card")
    assert all(stdnum.luhn.is_valid(card.replace(" ", "").replace("-", "")) for card in cards)
    assert {card.replace(" ", "").replace("-", "")[:6] for card in cards} == {"220000", "400000", "555555"}


def test_account_numbers_are_valid_ibans() -> None:
    ibans = values("iban")
    assert all(stdnum.iban.is_valid(iban) for iban in ibans)
    assert {iban[:2] for iban in ibans} == {"DE", "GB"}


def test_taxpayer_numbers_have_valid_check_digits() -> None:
    numbers = values("inn")
    assert all(stdnum.ru.inn.is_valid(number) for number in numbers)
    assert {len(number) for number in numbers} == {10, 12}


def test_pension_numbers_have_valid_check_digits() -> None:
    assert all(snils_is_valid(number) for number in values("snils"))


def test_emails_are_in_example_domains() -> None:
    assert {email.split("@")[1] for email in values("email")} == {"example.com", "example.org", "example.net"}


def test_names_agree_in_gender_and_are_all_in_the_support_teams_list(dags: Path) -> None:
    listed = set((dags / "support" / "names.txt").read_text(encoding="utf-8").split())
    names = values("name")
    assert {part for name in names for part in name.split()} <= listed
    assert not any(first in {"Анна", "Ольга"} and not last.endswith("а") for first, last in map(str.split, names))
    assert not any(first in {"Иван", "Олег"} and last.endswith("а") for first, last in map(str.split, names))


@pytest.mark.parametrize("kind", PII_KINDS)
def test_no_rows_give_no_values(kind: str) -> None:
    assert pii.make(kind, np.random.default_rng(5), np.zeros(0, np.bool_)).to_list() == []


def test_the_personal_data_of_the_truth_is_in_the_text(truth: pl.DataFrame, demo_texts: pl.DataFrame) -> None:
    both = demo_texts.join(truth, on="id").explode("pii", empty_as_null=False)
    assert both["text"].str.contains(both["pii"], literal=True).all()
    share = float((truth["pii"].list.len() > 0).mean())  # type: ignore[arg-type]
    assert 0.3 < share < 0.4


@pytest.fixture
def demo_texts(demo: object) -> pl.DataFrame:
    return pl.read_csv(demo.folder / "messages.csv", columns=["id", "text"])  # type: ignore[attr-defined]
