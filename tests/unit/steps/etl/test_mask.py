from __future__ import annotations

import hashlib
import random

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from stdnum import iban as iban_numbers
from stdnum import luhn
from tests.rigs.personal_texts import NAMES as TEXTS_NAMES
from tests.rigs.personal_texts import personal_texts

from kommuna.demo import pii
from kommuna.errors import MissingColumn, SchemaDrift, SpecError
from kommuna.steps.etl.mask import mask_pii
from kommuna.steps.etl.pii.masker import Masker

NAMES = ["Анна", "Смирнова", "Семёнов", "John Smith", "Мария-Луиза"]


def masked(*texts: str | None, names: list[str] | None = None, region: str = "RU") -> list[str | None]:
    table = pl.LazyFrame({"id": range(len(texts)), "text": texts}, schema_overrides={"text": pl.String})
    return mask_pii(table, names=names or [], region=region).table.collect()["text"].to_list()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("звоните +7 (903) 123-45-67 вечером", "звоните [PHONE] вечером"),
        ("тел 89031234567.", "тел [PHONE]."),
        ("8-903-123-45-67", "[PHONE]"),
        ("(903) 123-45-67", "[PHONE]"),
        ("call +1 202 555 0123 now", "call [PHONE] now"),
        ("перевёл 5000 на +79031234567 500 руб", "перевёл 5000 на [PHONE] 500 руб"),
        ("карта 4000 0012 3456 7899 2026 года", "карта [CARD] 2026 года"),
        ("карта4111111111111111!", "карта[CARD]!"),
        ("5555-5555-5555-4444", "[CARD]"),
        ("3782 822463 10005", "[CARD]"),
        ("4111 1111 1111 1111 +7 903 123 45 67", "[CARD] [PHONE]"),
        ("счёт DE89 3704 0044 0532 0130 00 OK", "счёт [IBAN] OK"),
        ("gb82west12345698765432", "[IBAN]"),
        ("ИНН 7707083893", "ИНН [INN]"),
        ("ИНН 500100732259,", "ИНН [INN],"),
        ("СНИЛС 112-233-445 95", "СНИЛС [SNILS]"),
        ("снилс 11223344595", "снилс [SNILS]"),
        ("пишите ivan.petrov+1@mail.example.ru.", "пишите [EMAIL]."),
        ("почта@пример.рф", "[EMAIL]"),
    ],
)
def test_each_kind_is_masked_in_its_usual_forms(text: str, expected: str) -> None:
    assert masked(text) == [expected]


@pytest.mark.parametrize(
    "text",
    [
        "перевёл 150000 руб 12.05.2026",
        "заказ 1234567890",
        "сумма 1 500 000,00 руб до 2026-05-12 10:30:00",
        "карта 4111 1111 1111 1112",
        "СНИЛС 112-233-445 96",
        "ИНН 7707083894",
        "DE89 3704 0044 0532 0130 01",
        "договор 2026/05-123456 от 12-05-2026",
        "12.05.2026 13.05.2026 14.05.2026",
        "0000000000000000",
        "собака @ дома",
        "аннамария и смирновагород",
        "",
    ],
)
def test_amounts_dates_and_numbers_with_wrong_check_digits_are_not_masked(text: str) -> None:
    assert masked(text, names=NAMES) == [text]


CARD = "4276380012345679"
SHAPES = {
    "two halves": "42763800 12345679",
    "four and twelve": "4276 380012345679",
    "digit by digit": " ".join(CARD),
    "two spaces": "4276  3800  1234  5679",
    "three spaces": "4276   3800   1234   5679",
    "stars": "4276*3800*1234*5679",
    "lines": "4276\n3800\r\n1234\t5679",
    "no-break spaces": "4276\u00a03800\u202f1234\u20095679",
    "invisible": "4276\u200b3800\u20601234\u00ad5679",
    "dashes": "4276\u20113800\u22121234\u20145679",
    "a dash among spaces": "4276 - 3800 - 1234 - 5679",
    "full-width": "４２７６３８００１２３４５６７９",
    "full-width with dashes": "４２７６－３８００－１２３４－５６７９",
    "Arabic digits": "٤٢٧٦ ٣٨٠٠ ١٢٣٤ ٥٦٧٩",
    "bold digits": "".join(chr(0x1D7CE + int(digit)) for digit in CARD),
}


@pytest.mark.parametrize("written", SHAPES.values(), ids=SHAPES)
def test_a_card_is_masked_however_it_is_written(written: str) -> None:
    assert masked(f"карта {written}, помогите") == ["карта [CARD], помогите"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8 9 1 6 1 2 3 4 5 6 7", "[PHONE]"),
        ("+7  916  123  45  67", "[PHONE]"),
        ("+7*916*123*45*67", "[PHONE]"),
        ("＋７ ９１６ １２３ ４５ ６７", "[PHONE]"),
        ("٨٩١٦١٢٣٤٥٦٧", "[PHONE]"),
        ("ИНН ７７０７０８３８９３", "ИНН [INN]"),
        ("112*233*445*95", "[SNILS]"),
        ("DE89*3704*0044*0532*0130*00", "[IBAN]"),
        ("ivan＠mail.example", "[EMAIL]"),
        ("1 2 3 4 5 6 7 8 9 10 11 12 13", None),
        ("платежи: 4000 2500 300 12 руб", None),
        ("12.05.2026 14.30 15.45 4000", None),
    ],
)
def test_other_numbers_have_the_same_shape(text: str, expected: str | None) -> None:
    assert masked(text) == [expected or text]


def test_names_are_whole_words_in_any_case_with_e_for_yo() -> None:
    got = masked(
        "Я АННА смирнова-Иванова",
        "Семенов и СЕМЁНОВ",
        "john  smith",
        "John, Smith",
        "Мария Луиза!",
        "Джон",
        names=NAMES,
    )
    assert got == ["Я [NAME] [NAME]-Иванова", "[NAME] и [NAME]", "[NAME]", "[NAME]", "[NAME]!", "Джон"]


def test_numbers_without_a_country_code_belong_to_the_region() -> None:
    assert masked("call 202-555-0123", region="US") == ["call [PHONE]"]
    assert masked("call 202-555-0123", region="RU") == ["call 202-555-0123"]


def test_the_metrics_count_each_kind_and_rows_and_columns_are_kept() -> None:
    texts = ["a@b.ru и c@d.ru, 89031234567", None, "ничего", "4111111111111111 Анна"]
    got = mask_pii(pl.LazyFrame({"text": texts, "n": [3, 1, 2, 0]}), names=["Анна"])
    assert got.metrics == {
        "masked_phone": 1.0, "masked_card": 1.0, "masked_iban": 0.0, "masked_inn": 0.0, "masked_snils": 0.0,
        "masked_email": 2.0, "masked_name": 1.0, "masked_rows": 2.0,
    }  # fmt: skip
    assert got.table.collect().rows() == [
        ("[EMAIL] и [EMAIL], [PHONE]", 3), (None, 1), ("ничего", 2), ("[CARD] [NAME]", 0),
    ]  # fmt: skip


def test_masking_many_rows_keeps_their_order(tmp_path: object) -> None:
    texts = [f"{i} a{i}@b.ru" if i % 3 else f"{i}" for i in range(50_000)]
    got = mask_pii(pl.LazyFrame({"id": range(50_000), "text": texts})).table.collect(engine="streaming")
    assert got["id"].is_sorted()
    assert got["text"].to_list() == [f"{i} [EMAIL]" if i % 3 else f"{i}" for i in range(50_000)]


def test_the_synthetic_personal_data_of_the_demo_is_masked() -> None:
    import numpy as np

    rng = np.random.default_rng(1)
    russian = np.array([True, False] * 500)
    for kind in ("phone", "card", "iban", "inn", "snils", "email"):
        values = pii.make(kind, rng, russian)
        table = pl.LazyFrame({"id": range(1000), "text": [f"вот: {value}" for value in values]})
        got = mask_pii(table).table.collect()
        rest = got.filter(~pl.col("text").str.contains(r"^вот: \[[A-Z]+\]$"))
        assert rest.is_empty(), (kind, rest)


@pytest.mark.slow
def test_the_masks_of_100_000_texts_are_known() -> None:
    """A new release of the numbering plans may change the digest; nothing else may."""
    got = Masker(TEXTS_NAMES, "RU").mask_column(pl.Series(personal_texts(100_000)))
    digest = hashlib.sha256("\0".join(got["text"]).encode()).hexdigest()
    assert digest == "a6d05418ae18e55525bf5c7b0d1cd1169d81605a6598615540496623268722c4"


def test_a_text_alone_is_masked_as_in_a_column() -> None:
    texts = list(personal_texts(3_000, seed=1))
    masker = Masker(TEXTS_NAMES, "RU")
    assert [masker.mask(text)[0] for text in texts] == masker.mask_column(pl.Series(texts))["text"].to_list()


@pytest.mark.slow
def test_a_text_of_five_megabytes_is_masked() -> None:
    assert masked("a" * 2_500_000 + "1 " * 1_000_000 + " x@y.ru")[0][-7:] == "[EMAIL]"  # type: ignore[index]


def test_an_unknown_region_and_a_missing_column_are_refused() -> None:
    table = pl.LazyFrame({"id": [1], "text": ["a"]})
    with pytest.raises(SpecError, match=r"no region 'ru' \(did you mean 'RU'\?\)"):
        mask_pii(table, region="ru")
    with pytest.raises(MissingColumn, match="table has no column 'txt'"):
        mask_pii(table, text="txt")
    with pytest.raises(SchemaDrift, match="column 'id': expected String, found Int64"):
        mask_pii(table, text="id")


PLAIN = ["перевод", "деньги", "card", "1500", "руб.", "12.05.2026", "ОК,", "2026", "-", "?", "Bank"]
WORDS = st.lists(st.sampled_from(PLAIN), max_size=5)


@st.composite
def cards(draw: st.DrawFn) -> str:
    length = draw(st.sampled_from([13, 15, 16, 16, 16, 18, 19]))
    body = draw(st.sampled_from("23456")) + "".join(
        draw(st.lists(st.sampled_from("0123456789"), min_size=length - 2, max_size=length - 2))
    )
    number = body + luhn.calc_check_digit(body)
    gap = draw(st.sampled_from(["", " ", "-"])) if length == 16 else ""
    return gap.join(number[i : i + 4] for i in range(0, length, 4))


@st.composite
def ibans(draw: st.DrawFn) -> str:
    rng = random.Random(draw(st.integers(0, 10**9)))
    country, length = draw(st.sampled_from([("DE", 18), ("FI", 14), ("PL", 24), ("NO", 11)]))
    bban = "".join(rng.choice("0123456789") for _ in range(length))
    number = country + iban_numbers.calc_check_digits(f"{country}00{bban}") + bban
    gap = draw(st.sampled_from(["", " "]))
    return gap.join(number[i : i + 4] for i in range(0, len(number), 4))


@given(WORDS, st.one_of(cards(), ibans(), st.emails()), WORDS)
@example(["x"], "4111 1111 1111 1111", ["12.05.2026"])
def test_valid_personal_data_never_survives(before: list[str], value: str, after: list[str]) -> None:
    got = masked(" ".join([*before, value, *after]))[0]
    assert got is not None
    assert value not in got
    assert "[" in got


@given(st.text(alphabet=st.characters(exclude_characters="@＠", exclude_categories=["Nd", "Cs"])))
def test_text_without_personal_data_is_unchanged(text: str) -> None:
    assert masked(text) == [text]


@given(WORDS, st.one_of(cards(), ibans(), st.emails()))
def test_masking_twice_changes_nothing(before: list[str], value: str) -> None:
    once = masked(" ".join([*before, value]))
    assert masked(*once) == once


def test_hypothesis_examples_have_no_deadline() -> None:
    """The first masked text takes thirty times as long as the next ones, because it loads the numbering plans."""
    assert settings().deadline is None
