from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from kommuna.demo.write import DemoData
from kommuna.spec.rules import RuleSet
from kommuna.steps.labeling.apply import apply_rules

NEW_COLUMNS = {
    "amount_over_usual": pl.Float64(),
    "abroad": pl.Boolean(),
    "announced": pl.Boolean(),
    "access_changed": pl.Boolean(),
    "hours_since_event": pl.Float64(),
    "risky_category": pl.Boolean(),
    "hour": pl.Int8(),
    "night": pl.Boolean(),
}


@pytest.fixture(scope="module")
def joined(demo: DemoData) -> pl.DataFrame:
    """Transactions with the customer's last event."""
    transactions = pl.read_csv(demo.folder / "transactions.csv", try_parse_dates=True)
    events = pl.read_csv(demo.folder / "events.csv", try_parse_dates=True)
    assert events["at"].is_sorted()
    assert (events["at"] == events["event_at"]).all()
    return transactions.join_asof(events, on="at", by="customer_id", check_sortedness=False)


def features(joined: pl.DataFrame, dags: Path) -> pl.DataFrame:
    sql = (dags / "fraud" / "features.sql").read_text(encoding="utf-8")
    return pl.SQLContext(transactions=joined).execute(sql, eager=True)


def votes(rows: pl.DataFrame, dags: Path, team: str, monkeypatch: pytest.MonkeyPatch) -> tuple[pl.DataFrame, RuleSet]:
    monkeypatch.syspath_prepend(str(dags / team))
    rules = RuleSet.from_yaml(dags / team / "rules.yaml")
    return apply_rules(rows.lazy(), rules).votes.collect(), rules


def test_features_are_added_to_the_existing_columns(joined: pl.DataFrame, dags: Path) -> None:
    made = features(joined, dags)
    assert made.columns == [*joined.columns, *NEW_COLUMNS]
    assert {name: made.schema[name] for name in NEW_COLUMNS} == NEW_COLUMNS
    assert made["id"].equals(joined["id"])


def test_features_of_a_known_transaction(dags: Path) -> None:
    row = {
        "id": ["t1", "t2"],
        "at": ["2026-09-03T05:30:00", "2026-09-03T06:00:00"],
        "amount": [900.0, 50.0],
        "usual_amount": [300.0, 100.0],
        "country": ["TR", "RU"],
        "home_country": ["RU", "RU"],
        "merchant_category": ["crypto", "groceries"],
        "event": ["password_change", None],
        "event_country": ["RU", None],
        "event_at": ["2026-09-03T04:00:00", None],
    }
    times = pl.DataFrame(row).with_columns(pl.col("at", "event_at").str.to_datetime())
    for table in (pl.DataFrame(row), times):  # times as text do too
        made = features(table, dags).select(*NEW_COLUMNS)
        assert made.row(0) == (3.0, True, False, True, 1.5, True, 5, True)
        assert made.row(1) == (0.5, False, False, False, None, False, 6, False)


@pytest.mark.parametrize("tagged", [False, True])
def test_features_keep_an_existing_tag(joined: pl.DataFrame, dags: Path, tagged: bool) -> None:
    rows = joined.head(10).with_columns(pl.lit("legit").alias("tag")) if tagged else joined.head(10)
    assert ("tag" in features(rows, dags).columns) is tagged


def test_every_support_rule_votes_sometimes_and_none_always(
    demo: DemoData, truth: pl.DataFrame, dags: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cast, rules = votes(pl.read_csv(demo.folder / "messages.csv"), dags, "support", monkeypatch)
    assert {rule.kind for rule in rules.rules} == {"any", "regex", "sql", "python"}
    assert set(rules.tags) == set(truth["tag"])
    both = cast.join(truth, on="id", maintain_order="left")
    for rule in rules.rules:
        given = both.filter(pl.col(rule.name).is_not_null())
        assert 0 < given.height < cast.height, rule.name
        right = float((given[rule.name].cast(pl.String) == given["tag"]).mean())  # type: ignore[arg-type]
        assert right < 0.05 if rule.against else 0.55 < right < 0.99, (rule.name, right)
    words = [rule.name for rule in rules.rules if rule.kind != "python" and not rule.against]
    covered = cast.select(pl.any_horizontal(pl.col(words).is_not_null()).alias("covered"))["covered"]
    assert 0.65 < float(covered.mean()) < 0.85  # type: ignore[arg-type]


def test_every_fraud_rule_votes_sometimes_and_none_always(
    demo: DemoData, joined: pl.DataFrame, dags: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cast, rules = votes(features(joined, dags), dags, "fraud", monkeypatch)
    truth = pl.read_parquet(demo.folder / "truth" / "tx_truth.parquet")
    both = cast.join(truth, on="id", maintain_order="left")
    for rule in rules.rules:
        given = both.filter(pl.col(rule.name).is_not_null())
        assert 0 < given.height < cast.height, rule.name
        right = float((given[rule.name].cast(pl.String) == given["tag"]).mean())  # type: ignore[arg-type]
        assert 0.4 < right < 1.0, (rule.name, right)
    covered = cast.select(pl.any_horizontal(pl.exclude("id").is_not_null()).alias("covered"))["covered"]
    assert float(covered.mean()) > 0.7  # type: ignore[arg-type]


def test_boosted_trees_on_the_features_beat_a_majority_of_the_rules(
    demo: DemoData, joined: pl.DataFrame, dags: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import f1_score

    made = features(joined, dags)
    cast, rules = votes(made, dags, "fraud", monkeypatch)
    truth = made.select("id").join(
        pl.read_parquet(demo.folder / "truth" / "tx_truth.parquet"), on="id", maintain_order="left"
    )
    fraud = (truth["tag"] == "fraud").to_numpy()
    counts = [
        cast.select(
            pl.sum_horizontal((pl.col(rule.name).cast(pl.String) == tag).fill_null(False) for rule in rules.rules)
        )
        .to_series()
        .to_numpy()
        for tag in ("fraud", "legit")
    ]
    columns = made.select(pl.col(*NEW_COLUMNS, "card_present", "amount").cast(pl.Float64)).to_numpy()
    model = HistGradientBoostingClassifier(random_state=0).fit(columns[:15_000], fraud[:15_000])
    by_rules = f1_score(fraud[15_000:], (counts[0] > counts[1])[15_000:])
    assert f1_score(fraud[15_000:], model.predict(columns[15_000:])) > by_rules + 0.03
    assert by_rules > 0.5
