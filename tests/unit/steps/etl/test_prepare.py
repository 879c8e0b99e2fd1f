from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from kommuna.demo.banking77 import write_banking_data
from kommuna.demo.pii import NAMES
from kommuna.demo.write import write_demo_data
from kommuna.errors import DuplicateKeys, MissingColumn, SchemaDrift
from kommuna.spec.table import TableSchema
from kommuna.steps.etl.prepare import prepare_messages

SCHEMA = TableSchema(columns={"id": "String", "created_at": "Datetime", "text": "String"})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "messages.csv"
    path.write_text(
        "id,created_at,text\n"
        "a,2026-08-31T23:59:59,старое\n"
        'b,2026-09-01T00:00:00,"Анна:\u00a0 +7 903 123-45-67"\n'
        "c,2026-09-02T00:00:00,\n"
        'b,2026-09-01T00:00:00,"Анна: +7 903 123-45-67"\n'
        "d,2026-09-03T00:00:00,всё хорошо\n",
        encoding="utf-8",
    )
    return path


def test_messages_are_read_cleaned_and_masked(source: Path) -> None:
    got = prepare_messages(source, table_schema=SCHEMA, names=["анна"], since=date(2026, 9, 1))
    assert got.table.select("id", "text").collect().rows() == [("b", "[NAME]: [PHONE]"), ("d", "всё хорошо")]
    expected = {
        "rows_read": 5.0, "bytes": float(source.stat().st_size), "rows_in": 4.0, "rows": 2.0, "dropped_empty": 1.0,
        "dropped_duplicates": 1.0, "masked_phone": 1.0, "masked_name": 1.0, "masked_rows": 1.0,
    }  # fmt: skip
    assert expected.items() <= got.metrics.items()


def test_since_needs_created_at(source: Path) -> None:
    without = TableSchema(columns={"id": "String", "text": "String"})
    with pytest.raises(MissingColumn, match="has no column 'created_at'"):
        prepare_messages(source, table_schema=without, since=date(2026, 9, 1))
    as_text = TableSchema(columns={"id": "String", "text": "String", "created_at": "String"})
    with pytest.raises(SchemaDrift, match="column 'created_at': expected Datetime, found String"):
        prepare_messages(source, table_schema=as_text, since=date(2026, 9, 1))


def test_a_key_with_two_different_texts_is_refused(source: Path) -> None:
    with source.open("a", encoding="utf-8") as file:
        file.write("d,2026-09-03T00:00:00,иначе\n")
    with pytest.raises(DuplicateKeys, match="the key 'd' names 2 rows"):
        prepare_messages(source, table_schema=SCHEMA)


def test_the_demo_messages_are_prepared_in_their_order(tmp_path: Path) -> None:
    write_demo_data(tmp_path, messages=2_000)
    got = prepare_messages(tmp_path / "messages.csv", table_schema=SCHEMA, names=sorted(NAMES))
    table = got.table.collect(engine="streaming")
    assert table.height == got.metrics["rows"]
    assert table["id"].is_sorted()
    assert min(got.metrics[f"masked_{kind}"] for kind in ("phone", "card", "iban", "inn", "snils", "email", "name")) > 0


def test_banking77_is_prepared(tmp_path: Path, shared_data: Path) -> None:
    write_banking_data(shared_data / "banking77", tmp_path)
    got = prepare_messages(
        tmp_path / "messages.csv", table_schema=TableSchema(columns={"id": "String", "text": "String"})
    )
    assert got.metrics["masked_rows"] == 0.0  # its messages contain no personal data
    assert got.table.collect().height == got.metrics["rows"] > 8_000
