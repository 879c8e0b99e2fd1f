"""Every step reports the same mistake in a table in the same words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from kommuna.errors import DataError, KommunaError, MissingColumn, SchemaDrift
from kommuna.spec.table import TableSchema
from kommuna.steps.etl.asof import asof_join
from kommuna.steps.etl.clean import clean
from kommuna.steps.etl.mask import mask_pii
from kommuna.steps.etl.read import read_table
from kommuna.steps.etl.untyped import read_untyped
from kommuna.steps.labeling.apply import apply_rules

TABLE = pl.LazyFrame({"id": ["a"], "text": ["card"], "amount": [1.0]})
RULES = {"tags": ["card"], "rules": [{"name": "r", "tag": "card", "any": ["card"]}]}
STEPS: dict[str, tuple[str, Callable[[str], object]]] = {
    "clean": ("table", lambda text: clean(TABLE, text=text)),
    "mask_pii": ("table", lambda text: mask_pii(TABLE, text=text)),
    "asof_join": ("left", lambda text: asof_join(TABLE, TABLE, on="amount", by=[text])),
    "apply_rules": ("messages", lambda text: apply_rules(TABLE, RULES, text=text)),
}


@pytest.mark.parametrize("step", STEPS)
def test_every_step_reports_a_missing_column_in_the_same_words(step: str) -> None:
    table, call = STEPS[step]
    with pytest.raises(MissingColumn) as caught:
        call("texts")
    error = caught.value
    assert error.what == f"{table} has no column 'texts' (did you mean 'text'?)"
    assert (error.where, error.fix) == (table, "its columns are: id, text, amount")


@pytest.mark.parametrize("step", [step for step in STEPS if step != "asof_join"])
def test_every_step_reports_a_text_column_of_another_type_in_the_same_words(step: str) -> None:
    table, call = STEPS[step]
    with pytest.raises(SchemaDrift) as caught:
        call("amount")
    assert (caught.value.what, caught.value.where) == ("column 'amount': expected String, found Float64", table)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b""),
        ("a.csv", None),
        ("a.csv", b"PAR1\0\0"),
        ("a.csv", b"\x1f\x8b\x08"),
        ("a.csv", "id\nключ\n".encode("utf-16")),
        ("a.csv", b'{"id": 1}\n'),
        ("a.ndjson", b'[{"id": 1}]'),
    ],
)
def test_a_file_is_refused_in_the_same_words_with_a_schema_and_without(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)

    def refusal(read: Callable[[], object]) -> KommunaError:
        with pytest.raises(DataError) as caught:
            read()
        return caught.value

    declared = refusal(lambda: read_table(path, table_schema=TableSchema(columns={"id": "String"})))
    untyped = refusal(lambda: read_untyped(path))
    assert (declared.what, declared.where, declared.fix) == (untyped.what, untyped.where, untyped.fix)
