from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from kommuna.errors import DataError, MissingColumn, SpecError, StepNotFound, TeamMistake
from kommuna.runtime.codecs import write_all
from kommuna.steps.etl.query import query

TABLES = {
    "messages": pl.LazyFrame({"id": [1, 2, 3], "channel": ["app", "web", "app"]}),
    "tags": pl.LazyFrame({"id": [1, 3], "tag": ["x", "y"]}),
}


def test_a_join_and_a_group_by_are_computed() -> None:
    sql = (
        "-- how many\nWITH tagged AS (SELECT * FROM messages JOIN tags USING (id)) "
        "SELECT channel, COUNT(*) AS n FROM tagged GROUP BY channel;"
    )
    got = query(dict(TABLES), sql=sql)
    assert got.table.collect().rows() == [("app", 2)]
    assert got.metrics == {"rows": 1.0}


@pytest.mark.parametrize(
    ("sql", "error", "message"),
    [
        (
            "SELECT * FROM mesages",
            StepNotFound,
            r"'mesages', but no input has this name \(did you mean 'messages'\?\)",
        ),
        (
            "SELECT chanel FROM messages",
            MissingColumn,
            r"column 'chanel', which no table has \(did you mean 'channel'\?\)",
        ),
        ("SELECT m.chanel FROM messages m", MissingColumn, r"column 'chanel', which no table has"),
        ("DROP TABLE messages", SpecError, "not a SELECT: it begins with DROP"),
        ("  -- nothing\n", SpecError, "the SQL is empty"),
        ("SELECT 1; DROP TABLE messages", SpecError, "more than one statement"),
        ("SELECT id FORM messages WHERE", SpecError, "the SQL cannot be read"),
        ("SELECT nofunction(id) FROM messages", SpecError, "the SQL cannot be read"),
        ("SELECT * FROM read_csv('/etc/hosts')", SpecError, "reads a file by read_csv"),
        ("SELECT '--' AS x FROM read_csv('/etc/hosts')", SpecError, "reads a file by read_csv"),
        ("SELECT * FROM \"read_csv\" /* */ ('/etc/hosts')", SpecError, "reads a file by read_csv"),
        ("SELECT 1 AS \"a'\" FROM read_csv('/etc/hosts')", SpecError, "reads a file by read_csv"),
        ("SELECT * FROM '/etc/hosts'", TeamMistake, "but no input has this name"),
    ],
)
def test_an_error_in_the_sql_is_the_teams_and_shows_the_sql(sql: str, error: type[TeamMistake], message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        query(dict(TABLES), sql=sql)
    assert sql.strip().startswith("--") or sql.strip() in str(caught.value)


def test_a_value_that_cannot_be_computed_is_the_teams_mistake_and_shows_the_sql(tmp_path: Path) -> None:
    sql = "SELECT CAST(channel AS INT) FROM messages"
    computed = query(dict(TABLES), sql=sql)
    with pytest.raises(DataError, match="fails on its rows") as caught:
        write_all({"table": computed.table}, tmp_path, computed.metrics)
    assert sql in str(caught.value)


def test_semicolons_and_functions_in_a_text_are_ignored() -> None:
    assert query(dict(TABLES), sql="SELECT 'a; read_csv(' AS x FROM messages").metrics["rows"] == 3


def test_the_example_features_are_computed() -> None:
    sql = (Path(__file__).resolve().parents[4] / "dags" / "fraud" / "features.sql").read_text(encoding="utf-8")
    row = {
        "amount": 100.0, "usual_amount": 50.0, "country": "KZ", "home_country": "RU", "event": "travel_notice",
        "event_country": "KZ", "at": "2026-09-01T03:30:00", "event_at": "2026-09-01T01:00:00",
        "merchant_category": "crypto",
    }  # fmt: skip
    times = [pl.col(name).str.to_datetime() for name in ("at", "event_at")]
    got = query({"transactions": pl.LazyFrame([row]).with_columns(times)}, sql=sql).table.collect().row(0, named=True)
    assert (got["amount_over_usual"], got["abroad"], got["announced"], got["hours_since_event"]) == (
        2.0,
        True,
        True,
        2.5,
    )
    assert (got["risky_category"], got["hour"], got["night"], got["access_changed"]) == (True, 3, True, False)
