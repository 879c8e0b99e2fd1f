"""NDJSON files: values are read as by Python's reader line by line."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from tests.fuzz.campaign import attempt, fuzzed, rarely
from tests.fuzz.typed_texts import DTYPE, EITHER, NUMBERS, REFUSED, TEXTS, column_of, texts_of, value_of

from kommuna.spec.table import TableSchema
from kommuna.steps.etl.read import read_table
from kommuna.steps.etl.untyped import read_untyped

KEYS = st.one_of(st.sampled_from(["id", "n", "l", "Текст", "a b", "*", "^a.*$", ""]), TEXTS)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.integers(-5, 5), st.floats(allow_nan=False), TEXTS,
    NUMBERS, DTYPE.flatmap(texts_of),
)  # fmt: skip
VALUES = st.one_of(
    SCALARS,
    SCALARS,
    st.lists(TEXTS, max_size=3),
    st.recursive(SCALARS, lambda v: st.lists(v, max_size=3) | st.dictionaries(KEYS, v, max_size=2), max_leaves=4),
)
RAW = st.sampled_from(
    ["NaN", "Infinity", "-Infinity", "1e999", "007", "+1", ".5", "1.", '"\\ud83d"', '"\\udc00x"', '"\\ud83d\\ude00"',
     '"\\ud800\\ud800"', "9007199254740993.0", "1.0", "1E5", "-0", "1e400", "12345678901234567.25", '"\t"', '"\\u0000"',
     "'x'", "True", "undefined", '"\\x41"', '{"a": 1, "a": 2}', "[1, 2", "1 // x", "1" + "0" * 400, "[" * 2000 + "]" * 2000]
)  # fmt: skip


@st.composite
def files(draw: st.DrawFn) -> tuple[bytes, dict[str, str]]:
    """A file and its declared columns."""
    keys = draw(st.lists(KEYS, min_size=1, max_size=3, unique=True))
    declared = {key: draw(DTYPE) for key in keys}
    columns = {
        key: st.one_of(column_of(draw, dtype).map(lambda t, d=dtype: _as_json(t, d))) for key, dtype in declared.items()
    }
    if rarely(draw, 3):
        columns = {key: st.one_of(texts, VALUES) for key, texts in columns.items()}
    lines = []
    for _ in range(draw(st.integers(0, 6))):
        parts = [(key, draw(columns[key])) for key in keys if not rarely(draw, 8)]
        if rarely(draw, 20):
            parts.append((draw(st.one_of(st.sampled_from(keys), KEYS)), draw(VALUES)))
        plain = draw(st.booleans())
        written = [f"{json.dumps(k, ensure_ascii=plain)}: {json.dumps(v, ensure_ascii=plain)}" for k, v in parts]
        if rarely(draw, 16):
            written.append(f"{json.dumps(draw(st.sampled_from(keys)))}: {draw(RAW)}")
        lines.append("{" + draw(st.sampled_from([", ", ",", " ,\t"])).join(written) + "}")
    if rarely(draw, 12):
        odd = ["", " ", "\t", "[]", "null", "1", "{}", "{} {}", "\x0b", "\x0c", "\xa0", "# note", "\0", "},", "\u2028"]
        lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(odd)))
    text = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"])).join(lines) + draw(st.sampled_from(["", "\n", "\n\n"]))
    content = text.encode(draw(st.sampled_from(["utf-8"] * 30 + ["utf-8-sig", "cp1251", "utf-16"])), "replace")
    if rarely(draw, 12):
        content = content[: draw(st.integers(0, len(content)))]
    if rarely(draw, 20) and content:
        at = draw(st.integers(0, len(content) - 1))
        content = content[:at] + draw(st.binary(min_size=1, max_size=2)) + content[at + 1 :]
    if rarely(draw, 20):
        content *= draw(st.sampled_from([2, 700]))
    return content, declared


def _as_json(text: str, dtype: str) -> Any:
    """Returns a text as a JSON value of its type, or unchanged if it is not one."""
    value = value_of(text, dtype)
    return value if (isinstance(value, bool | int | float | list) and dtype != "Boolean") or value is None else text


def objects(content: bytes) -> list[dict[str, Any]] | None:
    """Returns the object of each line as read by Python, with exact numbers; None if the file is not NDJSON."""
    found = []
    for line in content.split(b"\n"):
        if not line.strip(b" \t\r"):
            continue
        try:
            text = line.decode()
            row = json.loads(text, parse_float=_exact, parse_int=_exact, parse_constant=_none, object_pairs_hook=Pairs)
            json.dumps(json.loads(text), ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            return None
        if not isinstance(row, Pairs) or len(dict(row)) < len(row):
            return None  # no object, or one that names a key twice
        found.append(dict(row))
    return found


def _exact(number: str) -> Fraction:
    if len(number) > 1000 or math.isinf(float(number)):
        raise ValueError(number)
    return Fraction(number)


def _none(constant: str) -> None:
    raise ValueError(constant)


class Pairs(list[Any]):
    """An object as it is written."""


@fuzzed(examples=150, made=files())
def test_lines_are_read_as_by_python_or_refused(folder: Path, made: tuple[bytes, dict[str, str]]) -> None:
    content, declared = made
    path = folder / "rows.ndjson"
    path.write_bytes(content)
    read, error = attempt(lambda: read_table(path, table_schema=TableSchema.read({"columns": declared})))
    rows = objects(content)
    if error is not None:
        return
    assert rows is not None, "what is not NDJSON is read"
    got = read.table.collect().rows()
    assert read.metrics["rows"] == len(got) == len(rows)
    for mine, theirs in zip(got, rows, strict=True):
        for value, (name, dtype) in zip(mine, declared.items(), strict=True):
            assert_same(value, theirs.get(name), dtype)


def assert_same(value: Any, source: Any, dtype: str) -> None:
    """Converts a value to the declared type; numbers instead of texts become texts of the same number."""
    if source is None:
        assert value is None
    elif dtype == "List(String)":
        assert isinstance(source, list)
        assert len(value) == len(source)
        for item, text in zip(value, source, strict=True):
            assert_same(item, text, "String")
    elif isinstance(source, str):
        right = value_of(source, dtype)
        assert right is not REFUSED, f"{value!r} is read from {source!r}"
        assert right is EITHER or value == right, (value, right)
    elif isinstance(source, bool):
        assert value == ("true" if source else "false") if dtype == "String" else value is source
    elif isinstance(source, Fraction):
        if dtype == "String" or dtype.startswith("Float"):
            exact = Fraction(value)
            written = Fraction(repr(value)) if isinstance(value, float) else exact
            kept = source in (exact, written) or (source.denominator > 1 and float(source) == float(exact))
            assert kept or dtype == "Float32"
        elif dtype == "Boolean" or "Int" in dtype:
            assert value == source
        else:
            raise AssertionError(f"{value!r} is read from the number {source}")
    else:
        assert dtype == "String"
        assert isinstance(value, str)


@fuzzed(examples=100, made=files())
def test_lines_without_a_schema_keep_their_values(folder: Path, made: tuple[bytes, dict[str, str]]) -> None:
    path = folder / "rows.ndjson"
    path.write_bytes(made[0])
    table, error = attempt(lambda: read_untyped(path).collect())
    rows = objects(made[0])
    if error is not None:
        return
    assert rows is not None, "what is not NDJSON is read"
    got = table.to_dicts()
    assert len(got) == len(rows)
    for mine, theirs in zip(got, rows, strict=True):
        for name, value in theirs.items():
            if isinstance(value, str):
                assert mine[name] == value
            elif value is None:
                assert mine[name] is None
            elif isinstance(value, Fraction) and value.denominator == 1:
                assert value in (Fraction(mine[name]), Fraction(str(mine[name])))  # as it is, or as it is written
