"""CSV files: values are read as by Python's reader in strict mode, and converted as by Python."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from tests.fuzz.campaign import attempt, fuzzed, rarely
from tests.fuzz.typed_texts import DTYPE, EITHER, REFUSED, TEXTS, column_of, plain_of, value_of

from kommuna.spec.table import TableSchema
from kommuna.steps.etl.read import read_table
from kommuna.steps.etl.untyped import read_untyped


@dataclass(frozen=True)
class Made:
    """A file and its declared columns; `plain` if nothing is wrong with it."""

    content: bytes
    columns: dict[str, str]
    plain: bool


NAMES = st.lists(
    st.one_of(st.sampled_from(["id", "amount", "Текст", "a b", "#row", "len", "rows", "*", "^a.*$", "", '"x"', "literal"]), TEXTS.filter(str.strip)),
    min_size=1, max_size=4,
)  # fmt: skip


def plain_header(names: list[str]) -> bool:
    """Whether a header has no pattern, and cannot be mistaken for one with other separators than commas."""
    if not any(name.strip() for name in names) or "*" in names or any(name.startswith("^") for name in names):
        return False
    return len(names) > 1 or (bool(names) and not set(names[0]) & set(";\t|"))


@st.composite
def plain_files(draw: st.DrawFn) -> Made:
    names = draw(NAMES.map(lambda names: [n for n in dict.fromkeys(names) if "\0" not in n]).filter(plain_header))
    dtypes = [draw(DTYPE) for _ in names]
    rows = st.lists(st.tuples(*(plain_of(dtype) for dtype in dtypes)), min_size=1, max_size=6)
    rows = draw(rows.filter(lambda rows: tuple(names) not in rows))  # the header again is refused
    text = written([names, *rows], "\n" if draw(st.booleans()) else "\r\n", csv.QUOTE_ALL)
    return Made(
        draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + text.encode(), dict(zip(names, dtypes, strict=True)), True
    )


@st.composite
def odd_files(draw: st.DrawFn) -> Made:
    names = draw(NAMES)
    dtypes = [draw(DTYPE) for _ in names]
    rows: list[Any] = draw(st.lists(st.tuples(*(column_of(draw, dtype) for dtype in dtypes)), max_size=6))
    if rarely(draw, 10):
        rows.insert(draw(st.integers(0, len(rows))), draw(st.sampled_from([[], [""], ["x"], names, ["", "", ""]])))
    quoting: Any = draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]))
    delimiter = draw(st.sampled_from([","] * 20 + [";", "\t", "|"]))
    text = written([names, *rows], draw(st.sampled_from(["\n", "\r\n", "\n", "\r"])), quoting, delimiter)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):  # edits by hand
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(st.sampled_from(['"', ",", "\n", "\r", "a", "\0", '""', " ", ",,", "\n\n"])) + text[at:]
    encoding = draw(st.sampled_from(["utf-8"] * 30 + ["utf-8-sig", "cp1251", "utf-16", "utf-16-le", "koi8-r"]))
    content = text.encode(encoding, "replace")
    if rarely(draw, 10):
        content = content[: draw(st.integers(0, len(content)))]
    if rarely(draw, 20) and content:
        at = draw(st.integers(0, len(content) - 1))
        content = content[:at] + draw(st.binary(min_size=1, max_size=2)) + content[at + 1 :]
    declared = dict(zip(names, dtypes, strict=True))
    if rarely(draw, 20):
        declared[draw(st.sampled_from(["id", "Amount", "x"]))] = "Int64"
    return Made(content, declared, False)


def written(rows: Any, ending: str, quoting: Any, delimiter: str = ",") -> str:
    made = io.StringIO()
    csv.writer(made, lineterminator=ending, quoting=quoting, delimiter=delimiter).writerows(rows)
    return made.getvalue()


def strictly_read(content: bytes) -> tuple[list[str], list[list[str]]]:
    """Returns header and rows as read by Python; blank lines are left out."""
    rows = csv.reader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
    return next(rows, []), [row for row in rows if row]


@fuzzed(examples=150, made=st.one_of(plain_files(), odd_files(), odd_files()))
def test_a_file_with_a_schema_is_read_as_by_python_or_refused(folder: Path, made: Made) -> None:
    path = folder / "rows.csv"
    path.write_bytes(made.content)
    read, error = attempt(lambda: read_table(path, table_schema=TableSchema.read({"columns": made.columns})))
    if error is not None:
        assert not made.plain, f"a file without fault is refused: {error}"
        return
    header, rows = strictly_read(made.content)
    got = read.table.collect().rows()
    blank = [row for row in rows if not any(row)]
    assert read.metrics["rows"] == len(got)
    assert read.metrics["bytes"] == len(made.content)
    if len(header) > 1:
        assert len(got) + read.metrics["blank_rows"] == len(rows)
    assert len(got) >= len(rows) - len(blank)
    wanted = [[value_of(row[header.index(name)], dtype) for name, dtype in made.columns.items()] for row in rows]
    same_rows([row for row in got if any(v not in (None, "", []) for v in row)], [
        row for row in wanted if any(v not in (None, "", []) for v in row)
    ])  # fmt: skip


def same_rows(got: list[Any], wanted: list[list[Any]]) -> None:
    assert len(got) == len(wanted), (got, wanted)
    for mine, theirs in zip(got, wanted, strict=True):
        for value, right in zip(mine, theirs, strict=True):
            assert right is not REFUSED, f"{value!r} is read from what is no value"
            if right is not EITHER:
                assert (value or None) == (right or None), (value, right)


@fuzzed(examples=100, made=st.one_of(plain_files(), odd_files()))
def test_a_file_without_a_schema_keeps_every_value(folder: Path, made: Made) -> None:
    path = folder / "rows.csv"
    path.write_bytes(made.content)
    table, error = attempt(lambda: read_untyped(path, keys=("id",)).collect())
    if error is not None:
        assert not made.plain, f"a file without fault is refused: {error}"
        return
    header, rows = strictly_read(made.content)
    assert table.columns == header
    texts = [["" if v is None else v for v in row] for row in rows if any(row)]
    got = [row for row in table.rows() if any(v not in (None, "") for v in row)]
    assert len(got) == len(texts), (got, texts)
    for mine, theirs in zip(got, texts, strict=True):
        for value, text in zip(mine, theirs, strict=True):
            if isinstance(value, bool):
                assert str(value).lower() == text.lower()
            elif isinstance(value, int):
                assert str(value) == text or text == "-0"
            elif isinstance(value, float):
                assert value == float(text)
            else:
                assert (value or "") == text
