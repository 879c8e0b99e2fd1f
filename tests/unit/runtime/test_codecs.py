"""Values become files and files values as is recorded at `FORMAT`, in `recorded.json` beside this test."""

from __future__ import annotations

import datetime
import json
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, Self

import polars as pl
import pytest
from pydantic import BaseModel, Field
from tests.recorded.results import RecordedFile, fault, plain

from kommuna.runtime import codecs
from kommuna.spec.artifacts import Report
from kommuna.spec.base import Spec
from kommuna.spec.versions import FORMAT

RECORDED = RecordedFile(Path(__file__).with_name("recorded.json"))
NAME = "kommuna.runtime.codecs"
CONSTANT = "FORMAT of kommuna.spec.versions"


class Options(Spec):
    """A document."""

    name: str
    share: float = 0.5
    days: tuple[datetime.date, ...] = ()
    more: dict[str, int | None] = Field(default_factory=dict)


@dataclass(frozen=True)
class Words:
    """A value with a file format of its own."""

    words: tuple[str, ...]
    suffix: ClassVar[str] = ".words"

    def save(self, path: Path) -> None:
        path.write_text("\n".join(self.words), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        return cls(tuple(path.read_text(encoding="utf-8").split("\n")))


TABLE = pl.DataFrame(
    {
        "i": pl.Series([1, None, -(2**63)], dtype=pl.Int64),
        "small": pl.Series([1, 0, None], dtype=pl.Int8),
        "x": [0.1, float("nan"), None],
        "single": pl.Series([0.1, float("-inf"), -0.0], dtype=pl.Float32),
        "text": ["Ёж\u0000", "", None],
        "ok": [True, None, False],
        "tag": pl.Series(["б", None, "a"], dtype=pl.Enum(["б", "a"])),
        "many": pl.Series([["a", None], [], None], dtype=pl.List(pl.String)),
        "p": pl.Series([[0.5, 0.5], None, [1.0, 0.0]], dtype=pl.Array(pl.Float32, 2)),
        "pair": [{"a": 1, "b": "x"}, {"a": None, "b": None}, {"a": 3, "b": "z"}],
        "day": [datetime.date(2026, 9, 1), None, datetime.date(1, 1, 1)],
        "at": [datetime.datetime(2026, 9, 1, 12, 30, 0, 123456), None, datetime.datetime(9999, 12, 31)],
        "utc": pl.Series([datetime.datetime(2026, 9, 1, tzinfo=datetime.UTC), None, None]),
        "ns": pl.Series([1_000, None, 2_000_000], dtype=pl.Datetime("ns")),
        "length": [datetime.timedelta(days=1, microseconds=1), None, datetime.timedelta(0)],
        "money": pl.Series([Decimal("1.10"), None, Decimal("-0.01")], dtype=pl.Decimal(10, 2)),
        "raw": [b"\x00\xff", None, b""],
        "none": [None, None, None],
    }
)
VALUES: dict[str, tuple[Any, Any]] = {
    "table": (TABLE, pl.DataFrame),
    "lazy table": (TABLE.lazy().filter(pl.col("i").is_not_null()).select("tag", "i"), pl.LazyFrame),
    "no rows": (TABLE.head(0), pl.LazyFrame | None),
    "report": (Report("<!doctype html><p>Ёж &amp; co\n"), Report),
    "model": (
        Options(name="Ё\u2028", share=1e-7, days=(datetime.date(2026, 9, 1),), more={"б": 1, "a": None}),
        Options,
    ),
    "dict": ({"б": [1, 2.5, None, True], "a": {"c": "Ё", "b": 0.1}}, dict[str, Any]),
    "list": ([1, "1", {"b": 1, "a": 2}], list[Any]),
    "numbers": ({"b": 2, "a": 1}, dict[str, float]),
    "saved": (Words(("one", "два")), Words),
}


def written(folder: Path) -> dict[str, Any]:
    """Each value as its file describes it, what the file says, and what it is read as."""
    found = {}
    for name, (value, annotation) in VALUES.items():
        made = codecs.write(value, folder / name)
        path = Path(made.path)
        about: dict[str, Any] = {"file": path.name, "kind": made.kind, "suffix": made.suffix, "rows": made.rows}
        if made.kind == "table":
            about["content"] = plain(pl.read_parquet(path))
        else:
            about["content"] = path.read_text(encoding="utf-8")
        read = codecs.read(name, path, annotation, source=path.name, made=True)
        about["read"] = _plain(read)
        found[name] = about
    return found | {"read from YAML": plain(read_yaml(folder)), "path": read_path(folder)}


def _plain(value: Any) -> Any:
    if isinstance(value, Report | Words):
        return {type(value).__name__: next(iter(vars(value).values()))}
    known = {"frame": pl.DataFrame, "lazy frame": pl.LazyFrame, "model": BaseModel}
    kind = next((name for name, one in known.items() if isinstance(value, one)), type(value).__name__)
    return {kind: plain(value)}


def read_yaml(folder: Path) -> Any:
    """A document that a person wrote."""
    path = folder / "options.yaml"
    path.write_text("name: Ё\nshare: 1e-7  # a float\nmore: {b: 07, a: ~}\ndays: [2026-09-01]\n", encoding="utf-8")
    return codecs.read("options", path, Options | None, source="options.yaml")


def read_path(folder: Path) -> bool:
    return bool(codecs.read("file", folder / "any.csv", Path, source="any.csv") == folder / "any.csv")


def test_values_become_files_as_is_recorded(tmp_path: Path, record: bool) -> None:
    found = json.loads(json.dumps(plain(written(tmp_path))))
    said = RECORDED.fault(NAME, FORMAT, found, constant=CONSTANT, record=record)
    assert not said, said


def test_another_way_to_write_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compact(value: Any, name: str) -> bytes:
        return json.dumps(value if not isinstance(value, BaseModel) else value.model_dump(mode="json")).encode()

    monkeypatch.setattr(codecs, "_json", compact)
    said = fault(RECORDED.read()[NAME], FORMAT, plain(written(tmp_path)), constant=CONSTANT)
    assert said.startswith("the results changed, and the version did not: raise FORMAT of kommuna.spec.versions to ")
    assert "dict.content" in said or "model.content" in said
