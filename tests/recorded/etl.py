"""Cases of the steps that read and prepare tables."""

from __future__ import annotations

import datetime
import platform
from pathlib import Path
from typing import Any

import polars as pl

from kommuna.spec.step import StepContext
from kommuna.spec.table import TableSchema
from kommuna.steps.check import check
from kommuna.steps.etl.asof import asof_join
from kommuna.steps.etl.clean import clean
from kommuna.steps.etl.mask import mask_pii
from kommuna.steps.etl.prepare import prepare_messages
from kommuna.steps.etl.query import query
from kommuna.steps.etl.read import read_table

CSV = """\
id,text,n,x,ok,day,at,utc,tags,left out
0001,"Где моя, ""карта""?",7,0.1,true,2026-09-01,2026-09-01T12:30:00,2026-09-01T12:30:00+03:00,card|loan,a

b2,"две
строки",-9223372036854775808,1e-7,false,2024-02-29,2026-09-01 00:00:00.123456,2026-12-31T23:59:59Z,card,b
,,,,,,,,,
,"",,NaN,,,,,,c
ё4,  края  ,0,-0.0,TRUE,0001-01-01,9999-12-31T23:59:59,1970-01-01T00:00:00-11:00,вклад,d
"""
SCHEMA = {
    "text": "String", "id": "String", "n": "Int64", "x": "Float64", "ok": "Boolean", "day": "Date", "at": "Datetime",
    "utc": "DatetimeUTC", "tags": "List(String)",
}  # fmt: skip
NDJSON = """\
{"id": 9007199254740993, "text": "Привет \\ud83d\\ude42", "x": 1, "tags": ["a", null, "б|в"]}
{"text": null, "x": 2.5e-3, "id": -1, "tags": [], "more": {"a": 1}}
{"id": 3, "tags": null, "x": null, "text": ""}
"""


def _file(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def read_csv(folder: Path) -> Any:
    schema = TableSchema(columns=SCHEMA, non_finite="null")
    return read_table(_file(folder, "a.csv", CSV), table_schema=schema)


def read_csv_of_one_column(folder: Path) -> Any:
    return read_table(_file(folder, "a.csv", "id\n07\n\nб\n"), table_schema=TableSchema(columns={"id": "String"}))


def read_ndjson(folder: Path) -> Any:
    columns = {"id": "Int64", "x": "Float64", "text": "String", "tags": "List(String)"}
    return read_table(_file(folder, "a.txt", NDJSON), table_schema=TableSchema(columns=columns), format="ndjson")


def read_parquet(folder: Path) -> Any:
    path = folder / "a.parquet"
    frame = pl.DataFrame(
        {"id": [1, 2, None], "x": [0.5, float("inf"), None], "day": [datetime.date(2026, 1, 1), None, None]},
        schema={"id": pl.Int16, "x": pl.Float32, "day": pl.Date},
    )
    frame.write_parquet(path)
    schema = TableSchema(columns={"day": "Date", "id": "Int64", "x": "Float64"}, non_finite="null")
    found = read_table(path, table_schema=schema)
    return found._replace(metrics=found.metrics | {"bytes": 0.0})  # how large Polars makes it is not the step's


def clean_texts(_: Path) -> Any:
    texts = [
        "  Где\u00a0моя\n\nкарта? ", "и\u0306 \u200bтут\u00ad", None, "", " \u200b\t", "й", "A\x00\x85B\u2028c", "длинный текст",
        "й", "ﬁ №1 Ｆ",
    ]  # fmt: skip
    ids = [1, 2, 3, 4, 5, 6, 7, 8, 6, 9]
    return clean(pl.LazyFrame({"id": ids, "text": texts, "n": [None, *range(4), 7, 0, 0, 7, 1]}), max_chars=9)


def clean_other_names(_: Path) -> Any:
    table = pl.LazyFrame({"who": ["b", "a", "b"], "said": ["x ", "x", "x "], "note": [" y ", None, " y "]})
    return clean(table, key="who", text="said")


PRIVATE = [
    "Звоните +7 (916) 123-45-67 или 8 495 123 45 67",
    "карта 4111 1111 1111 1111, не карта 4111 1111 1111 1112",
    "ИНН 7707083893, СНИЛС 112-233-445 95",
    "IBAN DE89 3704 0044 0532 0130 00; почта Ivan.Petrov+x@bank.example",
    "Пётр Иванов и петр, но не Петровск",
    None,
    "",
    "договор 123456789012, сумма 1 000 000",
]


def mask_texts(_: Path) -> Any:
    table = pl.LazyFrame({"id": range(len(PRIVATE)), "text": PRIVATE})
    return mask_pii(table, names=["Пётр", "Иванов"])


def mask_respelled_names(_: Path) -> Any:
    texts = [
        "Ивано\u0301в и Ｉｖａｎｏｖ",
        "Пе\u0308тр: Ива\u00adнов\u200e.",
        "Weiß, WEISS, O\u02bcBrien, O’Brien",
        None,
    ]
    return mask_pii(pl.LazyFrame({"text": texts}), names=["Иванов", "Ivanov", "Пётр", "Weiss", "O'Brien"])


def mask_of_another_region(_: Path) -> Any:
    table = pl.LazyFrame({"said": ["030 123456, +7 916 123-45-67", "8 916 123-45-67 4111111111111111"]})
    return mask_pii(table, text="said", region="DE")


def mask_numbers(_: Path) -> Any:
    texts = [
        "(916) 123-45-67, 8(495)123-45-67, +7 (495) 123 45 67, +49 30 901820, 9161234567",
        "3782 822463 10005, 3056 930902 5904, 4000 0000 0000 0000 006, 4111-1111-1111-1111, 41111111111111111",
        "500100732259, 7707083894, 11223344595, a4111111111111111",
    ]
    return mask_pii(pl.LazyFrame({"text": texts}))


def prepare_respelled_names(folder: Path) -> Any:
    path = _file(folder, "messages.csv", "id,text\na,Ивано\u0301в\nb,Ｉｖａｎｏｖ\n")
    return prepare_messages(
        path, table_schema=TableSchema(columns={"id": "String", "text": "String"}), names=["Иванов", "Ivanov"]
    )


def prepare(folder: Path) -> Any:
    rows = [
        "id,text,created_at,tag",
        'a,"  карта\u00a04111 1111 1111 1111 ",2026-09-01T00:00:00,card',
        "b,  ,2026-09-02T00:00:00,loan",
        'c,"Анна, перезвоните на 8 916 123-45-67",2026-08-31T23:59:59,loan',
        'd,"Анна, перезвоните на 8 916 123-45-67",2026-09-01T10:00:00,',
        'd,"Анна, перезвоните на 8 916 123-45-67",2026-09-01T10:00:00,',
    ]
    path = _file(folder, "messages.csv", "\n".join(rows) + "\n")
    schema = TableSchema(columns={"id": "String", "text": "String", "created_at": "Datetime", "tag": "String"})
    return prepare_messages(path, table_schema=schema, names=["анна"], since=datetime.date(2026, 9, 1), max_chars=30)


CARDS = pl.LazyFrame(
    {
        "id": [1, 2, 3, 4],
        "who": ["Иванов", "Ёлкина", None, "Smith"],
        "amount": [10, None, 7, 2_000_000_000],
        "rate": [0.5, float("nan"), None, 2.5],
        "at": [datetime.datetime(2026, 9, 1, 10), None, datetime.datetime(2026, 9, 30), datetime.datetime(2024, 2, 29)],
    },
    schema_overrides={"amount": pl.Int32},
)
PLACES = pl.LazyFrame({"id": [1, 1, 4, 5], "place": ["Москва", "Омск", None, "Rome"]})


def query_numbers(_: Path) -> Any:
    sql = """
        SELECT id, amount / 4 AS quarter, amount // 3 AS thirds, amount % 0 AS none, amount * 10 AS wide, rate,
               ROUND(rate) AS rounded, ROUND(amount / 3.0, 2) AS cents, CAST(rate AS INT) AS whole, -7 / 2 AS minus,
               LOG(2, 8) AS log, SQRT(-1) AS root
        FROM cards ORDER BY id DESC
    """
    return query({"cards": CARDS}, sql=sql)


def query_texts(_: Path) -> Any:
    sql = """
        SELECT id, UPPER(who) AS up, LENGTH(who) - 10 AS short, STRPOS(who, 'ов') AS at, SUBSTR(who, -1, 3) AS head,
               EXTRACT(MONTH FROM at) * 100 AS month, who LIKE 'И%' AS like_i, COALESCE(who, '—') || '!' AS said,
               CASE WHEN rate > 1 THEN 'high' WHEN rate IS NULL THEN 'none' ELSE 'low' END AS level
        FROM cards ORDER BY who DESC NULLS LAST
    """
    return query({"cards": CARDS}, sql=sql)


def query_conditions(_: Path) -> Any:
    sql = """
        SELECT id, CAST(NULL AS BOOLEAN) IS NOT TRUE AS a, amount IS NOT NULL AS b, id NOT IN (1, 2) AS c,
               id NOT BETWEEN 2 AND 3 AS d, who NOT LIKE 'И%' AS e, POSITION('ов' IN who) AS f, ROUND(1.005, 2) AS g,
               1 / 0 AS h, 1 * 1.0 / 1000000000 AS i, -(amount) / 4 + 2 * 3 AS j, NOT (rate > 1 OR id = 1) AS k,
               '07' = 7 AS l, CAST(1.7e0 AS INT) AS m, 9223372036854775807 + CAST(1 AS BIGINT) AS n /* a /* b */ 'c' */
        FROM cards WHERE NOT (rate > 2 AND at < DATE '2025-01-01') -- 'rest'
    """
    return query({"cards": CARDS}, sql=sql)


def query_join(_: Path) -> Any:
    sql = """
        WITH seen AS (SELECT id, COUNT(*) AS n, COUNT(place) AS named FROM places GROUP BY id)
        SELECT c.id, c.who, s.n, s.named, SUM(c.amount) AS total
        FROM cards c LEFT JOIN seen s ON c.id = s.id WHERE c.at >= DATE '2024-02-29' OR c.at IS NULL
        GROUP BY c.id, c.who, s.n, s.named ORDER BY c.id
    """
    return query({"cards": CARDS, "places": PLACES}, sql=sql)


def _minutes(*minutes: int | None) -> list[datetime.datetime | None]:
    start = datetime.datetime(2026, 9, 1)
    return [None if m is None else start + datetime.timedelta(minutes=m) for m in minutes]


LEFT = pl.LazyFrame({"at": _minutes(10, 0, 30, None, 300), "who": ["a", "b", "a", "a", None], "x": [1, 2, 3, 4, 5]})
RIGHT = pl.LazyFrame(
    {"at": _minutes(10, 10, 5, 0, 20, None), "who": ["a", "a", "b", "b", "a", "a"], "x": ["p", "q", "r", "s", "t", "u"]}
)


def asof_backward(_: Path) -> Any:
    return asof_join(LEFT, RIGHT, on="at", by=["who"], tolerance="1h")


def asof_forward(_: Path) -> Any:
    return asof_join(LEFT, RIGHT, on="at", by=["who"], strategy="forward", suffix="_next")


def asof_nearest_number(_: Path) -> Any:
    left = pl.LazyFrame({"n": [5.0, float("nan"), 1.0, None, 15.0], "y": [1, 2, 3, 4, 5]})
    right = pl.LazyFrame({"n": [0.0, 10.0, 10.0, float("inf"), None], "z": ["a", "b", "c", "d", "e"]})
    return asof_join(left, right, on="n", tolerance="5", strategy="nearest")


def check_of_a_team(_: Path) -> Any:
    found = check(context=StepContext(team="support"))
    return found._replace(table=found.table.with_columns(pl.col("host") == platform.node()))


CASES = {
    "kommuna.steps:check": [check_of_a_team],
    "kommuna.steps:read_table": [read_csv, read_csv_of_one_column, read_ndjson, read_parquet],
    "kommuna.steps:clean": [clean_texts, clean_other_names],
    "kommuna.steps:mask_pii": [mask_texts, mask_numbers, mask_respelled_names, mask_of_another_region],
    "kommuna.steps:prepare_messages": [prepare, prepare_respelled_names],
    "kommuna.steps:query": [query_numbers, query_texts, query_conditions, query_join],
    "kommuna.steps:asof_join": [asof_backward, asof_forward, asof_nearest_number],
}
