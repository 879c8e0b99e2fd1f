from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kommuna.errors import MissingColumn, SchemaDrift, SpecError
from kommuna.steps.etl.asof import asof_join

NOON = datetime(2026, 9, 1, 12)


def at(*hours: float | None) -> list[datetime | None]:
    return [None if hour is None else NOON + timedelta(hours=hour) for hour in hours]


LEFT = pl.LazyFrame({"id": [1, 2, 3, 4, 5], "g": ["a", "b", "a", None, "a"], "at": at(5, 1, 0, 1, None)})
RIGHT = pl.LazyFrame({"g": ["a", "a", "b", None, "a"], "at": at(4, 0, 2, 0, 0), "v": [1, 2, 3, 4, 5], "id": [9] * 5})


def joined(**options: Any) -> dict[int, int | None]:
    got = asof_join(LEFT, RIGHT, on="at", by=["g"], **options).table.collect()
    assert got["id"].to_list() == [1, 2, 3, 4, 5]
    return dict(got.select("id", "v").iter_rows())


def test_each_left_row_is_kept_and_joined_with_the_latest_right_row_at_or_before_it() -> None:
    assert joined() == {1: 1, 2: None, 3: 5, 4: None, 5: None}
    got = asof_join(LEFT, RIGHT, on="at", by=["g"])
    assert got.metrics == {"rows": 5.0, "matched": 2.0, "unmatched": 3.0}
    assert got.table.collect_schema().names() == ["id", "g", "at", "v", "id_right"]


def test_strategies_and_tolerances() -> None:
    assert joined(strategy="forward") == {1: None, 2: 3, 3: 2, 4: None, 5: None}
    assert joined(tolerance="30m") == {1: None, 2: None, 3: 5, 4: None, 5: None}
    assert joined(strategy="nearest", tolerance="1h") == {1: 1, 2: 3, 3: 5, 4: None, 5: None} or joined(
        strategy="nearest", tolerance="1h"
    ) == {1: 1, 2: 3, 3: 2, 4: None, 5: None}


def test_without_by_all_rows_are_looked_up() -> None:
    got = asof_join(LEFT.select("id", "at"), RIGHT.filter(pl.col("v") < 3).select("at", "v"), on="at").table.collect()
    assert got["v"].to_list() == [1, 2, 2, 2, None]


def test_numbers_join_too() -> None:
    left, right = pl.LazyFrame({"n": [1, 10]}), pl.LazyFrame({"n": [0, 3], "v": ["a", "b"]})
    assert asof_join(left, right, on="n", tolerance="2").table.collect()["v"].to_list() == ["a", None]


def test_an_empty_right_table_matches_nothing() -> None:
    got = asof_join(LEFT, RIGHT.clear(), on="at", by=["g"])
    assert got.metrics == {"rows": 5.0, "matched": 0.0, "unmatched": 5.0}
    assert got.table.collect()["v"].to_list() == [None] * 5


def test_bad_columns_types_and_tolerances_are_named() -> None:
    with pytest.raises(MissingColumn, match=r"left has no column 'att' \(did you mean 'at'\?\)"):
        asof_join(LEFT, RIGHT, on="att")
    with pytest.raises(MissingColumn, match="left has no column 'v'"):
        asof_join(LEFT, RIGHT, on="at", by=["v"])
    with pytest.raises(
        SchemaDrift, match=r"column 'at': expected one type on both sides, found Datetime.* on the left and"
    ):
        asof_join(LEFT, RIGHT.with_columns(pl.col("at").cast(pl.String)), on="at")
    with pytest.raises(SchemaDrift, match="column 'g': expected a time or a number, found String"):
        asof_join(LEFT, RIGHT, on="g")
    with pytest.raises(SpecError, match="tolerance 'two hours' is not a duration"):
        asof_join(LEFT, RIGHT, on="at", tolerance="two hours")


ROWS = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 20)), min_size=1, max_size=30)


@settings(max_examples=40, deadline=None)
@given(ROWS, ROWS, st.sampled_from(["backward", "forward"]), st.sampled_from([None, "3"]))
def test_it_agrees_with_pandas(left: Any, right: Any, strategy: Any, tolerance: str | None) -> None:
    one = pl.DataFrame(left, schema={"g": pl.String, "n": pl.Int64}, orient="row").with_row_index("id")
    two = pl.DataFrame(right, schema={"g": pl.String, "n": pl.Int64}, orient="row").with_row_index("v")
    got = asof_join(one.lazy(), two.lazy(), on="n", by=["g"], strategy=strategy, tolerance=tolerance).table.collect()
    frames = [
        pd.DataFrame({name: frame[name].to_list() for name in frame.columns}).sort_values("n", kind="stable")
        for frame in (one, two)
    ]
    limit = None if tolerance is None else int(tolerance)
    wanted = pd.merge_asof(*frames, on="n", by="g", direction=strategy, tolerance=limit).sort_values("id")
    assert got["v"].to_list() == [None if pd.isna(v) else int(v) for v in wanted["v"]]


@pytest.mark.parametrize(
    ("tolerance", "matches"), [("1", True), ("0.1", True), ("0.10", True), ("0.099", False), ("0", False)]
)
def test_a_tolerance_on_decimals_has_their_unit(tolerance: str, matches: bool) -> None:
    money = {"n": pl.Decimal(12, 2)}
    left, right = pl.LazyFrame({"n": [Decimal("1.50")]}, money), pl.LazyFrame({"n": [Decimal("1.40")]}, money)
    got = asof_join(left, right.with_columns(v=1), on="n", tolerance=tolerance)
    assert got.metrics["matched"] == float(matches)


@pytest.mark.parametrize("strategy", ["backward", "forward", "nearest"])
@pytest.mark.parametrize("tolerance", [None, "100"])
def test_nan_and_infinity_match_nothing(strategy: Any, tolerance: str | None) -> None:
    nan, inf = float("nan"), float("inf")
    left = pl.LazyFrame({"n": [2.0, nan, inf, -inf, 5.0]})
    right = pl.LazyFrame({"n": [nan, 2.0, inf, 5.0, -inf], "v": [1, 2, 3, 4, 5]})
    got = asof_join(left, right, on="n", strategy=strategy, tolerance=tolerance).table.collect()
    assert got["v"].to_list() == [2, None, None, None, 4]


@pytest.mark.parametrize("tolerance", ["-1", "nan", "inf", "1.5"])
def test_a_tolerance_that_is_not_a_distance_is_refused(tolerance: str) -> None:
    table = pl.LazyFrame({"n": [1, 2]})
    with pytest.raises(SpecError, match=rf"tolerance '{tolerance}' is no"):
        asof_join(table, table, on="n", tolerance=tolerance)


def test_a_name_clash_is_reported_with_its_fix() -> None:
    left = pl.LazyFrame({"at": [1], "v": [0], "v_right": [0]})
    right = pl.LazyFrame({"at": [1], "v": [2]})
    with pytest.raises(SpecError, match="column 'v' is in both tables, and 'v_right' is taken") as caught:
        asof_join(left, right, on="at")
    assert "suffix='_2'" in caught.value.fix
    assert asof_join(left, right, on="at", suffix="_2").table.collect().rows() == [(1, 0, 0, 2)]
    with pytest.raises(SpecError, match="column 'v' is in both tables, and 'v' is taken"):
        asof_join(left, right, on="at", suffix="")
    with pytest.raises(SpecError, match="column 'at' is given as `on` and in `by`"):
        asof_join(left, right, on="at", by=["at"])
    with pytest.raises(SpecError, match=r"no strategy 'bakward' \(did you mean 'backward'\?\)"):
        asof_join(left, right, on="at", strategy="bakward")  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", ["row", "met"])
def test_a_suffix_may_produce_any_name(suffix: str) -> None:
    left = pl.LazyFrame({"at": [1], "#": ["l"]})
    right = pl.LazyFrame({"at": [1], "#": ["r"]})
    assert asof_join(left, right, on="at", suffix=suffix).table.collect().to_dicts() == [
        {"at": 1, "#": "l", f"#{suffix}": "r"}
    ]


def test_columns_may_have_any_name() -> None:
    names = ["#left", "#right", "#met", "#row"]
    left, right = (pl.LazyFrame({"at": [1], **{name: [side] for name in names}}) for side in ("l", "r"))
    got = asof_join(left, right, on="at").table.collect()
    assert got.columns == ["at", *names, *(f"{name}_right" for name in names)]
    assert got.row(0)[1:] == ("l",) * 4 + ("r",) * 4
