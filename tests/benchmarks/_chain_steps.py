"""The steps of the benchmark `chain`, in order: a script for each side, which imports, and returns the work to measure.

A script gets the folder with the inputs, and its work writes `STEP_SIDE.parquet` there; the next steps read that of
`ours`. An entry of `STEPS` is all that a new step needs.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
MESSAGE = dict.fromkeys(("id", "created_at", "channel", "text", "operator", "operator_tag"), "String")
EVENTS = 10  # per transaction, for the as-of join
SAMPLE = 10_000  # rows of the peers that take a sample

Work = Callable[[], object]
Script = Callable[[Path], Work]


@dataclass(frozen=True)
class Step:
    """A step and its peers.

    Attributes:
        ours, floor, today: the scripts; None where there is none.
        of_messages: whether it belongs to the chain of messages.
        sample: the number of rows that the user's way takes; None: all.
        same: whether the sides' tables have to be equal; votes and labels of peers are not.
    """

    name: str
    ours: Script
    floor: Script | None = None
    today: Script | None = None
    of_messages: bool = True
    sample: int | None = None
    same: bool = True

    def digest(self, folder: Path, side: str) -> str | None:
        """Returns the digest of the written table's rows in their order; None if there is nothing to compare."""
        import polars as pl

        path = folder / f"{self.name}_{side}.parquet"
        if not self.same or not path.exists() or (side == "today" and self.sample):
            return None
        rows = pl.scan_parquet(path).select(pl.struct(pl.all()).hash(1)).collect(engine="streaming").to_series()
        return hashlib.sha256(rows.to_numpy().tobytes()).hexdigest()


def prepare(folder: Path, rows: int) -> None:
    """Writes the demo's files of so many messages and transactions, and the tables that a step reads beside them."""
    import numpy as np
    import polars as pl

    from kommuna.demo.transactions import EVENTS as NAMES
    from kommuna.demo.write import write_demo_data

    write_demo_data(folder / "demo", messages=rows)
    transactions = pl.scan_csv(folder / "demo/transactions.csv").with_columns(
        pl.col("at").str.to_datetime(time_unit="us")
    )
    transactions.sink_parquet(folder / "transactions.parquet")
    known = pl.read_parquet(folder / "transactions.parquet", columns=["customer_id", "at"])
    rng = np.random.default_rng(0)
    count = rows * EVENTS
    at = known["at"].min() + pl.Series(rng.integers(0, 30 * 86_400, count)).cast(pl.Int64) * pl.duration(seconds=1)
    events = pl.DataFrame({"customer_id": known["customer_id"].gather(pl.Series(rng.integers(0, rows, count)))})
    events = events.with_columns(at=at, event=pl.Series(NAMES).gather(pl.Series(rng.integers(0, len(NAMES), count))))
    events.with_columns(event_at=pl.col("at")).write_parquet(folder / "events.parquet")


def _out(folder: Path, step: str, side: str) -> Path:
    return folder / f"{step}_{side}.parquet"


def _ours(step: str, call: Callable[[Path], Any]) -> Script:
    """A script of ours: calls the step, and writes its table with its metrics, as the runtime does."""

    def script(folder: Path) -> Work:
        from kommuna.runtime.codecs import write_all
        from kommuna.spec.artifacts import ComputedWithTables
        from kommuna.steps.etl import asof, clean, mask, query, read  # noqa: F401
        from kommuna.steps.labeling import apply, label  # noqa: F401

        def work() -> None:
            done = call(folder)
            table, metrics = done[0], done.metrics
            write_all({f"{step}_ours": table}, folder, metrics if isinstance(metrics, ComputedWithTables) else None)
            dict(metrics)

        return work

    return script


# Read: CSV to typed Parquet.
def _read(folder: Path) -> Any:
    from kommuna.spec.table import TableSchema
    from kommuna.steps.etl.read import read_table

    return read_table(folder / "demo/messages.csv", table_schema=TableSchema(columns=MESSAGE))


def _read_floor(folder: Path) -> Work:
    import polars as pl

    table = pl.scan_csv(folder / "demo/messages.csv", schema=dict.fromkeys(MESSAGE, pl.String))
    return lambda: table.sink_parquet(_out(folder, "read", "floor"))


def _read_today(folder: Path) -> Work:
    import pandas as pd

    def work() -> None:
        pd.read_csv(folder / "demo/messages.csv", dtype=str).to_parquet(_out(folder, "read", "today"))

    return work


# Clean: Unicode and white space, without empty texts and equal rows.
def _clean(folder: Path) -> Any:
    import polars as pl

    from kommuna.steps.etl.clean import clean

    return clean(pl.scan_parquet(_out(folder, "read", "ours")))


def _clean_floor(folder: Path) -> Work:
    import polars as pl

    from kommuna.steps.text import INVISIBLE

    text = pl.col("text").str.replace_all(f"[{INVISIBLE}]", "").str.normalize("NFC")
    text = text.str.replace_all(r"\s+", " ").str.strip_chars(" ").str.slice(0, 20_000)
    table = pl.scan_parquet(_out(folder, "read", "ours")).with_columns(text).filter(pl.col("text") != "")
    table = table.unique("id", keep="first", maintain_order=True)
    return lambda: table.sink_parquet(_out(folder, "clean", "floor"))


def _clean_today(folder: Path) -> Work:
    import unicodedata

    import pandas as pd

    from kommuna.steps.text import INVISIBLE

    invisible, space = re.compile(f"[{INVISIBLE}]"), re.compile(r"\s+")

    def plain(text: str) -> str:
        return space.sub(" ", unicodedata.normalize("NFC", invisible.sub("", text))).strip(" ")[:20_000]

    def work() -> None:
        table = pd.read_parquet(_out(folder, "read", "ours"))
        table = table[table["text"].notna()]
        table["text"] = table["text"].map(plain)
        table[table["text"] != ""].drop_duplicates("id").to_parquet(_out(folder, "clean", "today"))

    return work


# Mask.
def _mask(folder: Path) -> Any:
    import polars as pl

    from kommuna.demo.pii import NAMES
    from kommuna.steps.etl.mask import mask_pii

    return mask_pii(pl.scan_parquet(_out(folder, "clean", "ours")), names=sorted(NAMES))


# As-of join: each transaction with the customer's last event.
def _asof(folder: Path) -> Any:
    import polars as pl

    from kommuna.steps.etl.asof import asof_join

    left, right = (pl.scan_parquet(folder / f"{name}.parquet") for name in ("transactions", "events"))
    return asof_join(left, right, on="at", by=["customer_id"])


def _asof_floor(folder: Path) -> Work:
    import polars as pl

    left, right = (pl.scan_parquet(folder / f"{name}.parquet") for name in ("transactions", "events"))
    numbered = left.with_row_index("#row").sort("at", maintain_order=True)
    right = right.sort("at", maintain_order=True)
    table = numbered.join_asof(right, on="at", by="customer_id", check_sortedness=False).sort("#row").drop("#row")
    return lambda: table.sink_parquet(_out(folder, "asof", "floor"))


def _asof_duckdb(folder: Path) -> Work:
    import duckdb

    sql = f"""COPY (SELECT t.*, e.event, e.event_at FROM '{folder}/transactions.parquet' t ASOF LEFT JOIN
        '{folder}/events.parquet' e ON t.customer_id = e.customer_id AND t.at >= e.at)
        TO '{folder}/asof_duckdb_floor.parquet'"""
    return lambda: duckdb.sql(sql)


def _asof_today(folder: Path) -> Work:
    import pandas as pd

    def work() -> None:
        left, right = (pd.read_parquet(folder / f"{name}.parquet") for name in ("transactions", "events"))
        left, right = left.sort_values("at", kind="stable"), right.sort_values("at", kind="stable")
        pd.merge_asof(left, right, on="at", by="customer_id").to_parquet(_out(folder, "asof", "today"))

    return work


# Query: the fraud team's features.
def _sql() -> str:
    return (ROOT / "dags/fraud/features.sql").read_text(encoding="utf-8")


def _joined(folder: Path) -> Any:
    import polars as pl

    events = pl.lit(None, pl.String).alias("event_country")
    return pl.scan_parquet(_out(folder, "asof", "ours")).with_columns(events)


def _query(folder: Path) -> Any:
    from kommuna.steps.etl.query import query

    return query({"transactions": _joined(folder)}, sql=_sql())


def _query_floor(folder: Path) -> Work:
    import polars as pl

    purchase, event = pl.col("at"), pl.col("event")
    table = _joined(folder).with_columns(
        amount_over_usual=pl.when(pl.col("usual_amount") != 0).then(pl.col("amount") / pl.col("usual_amount")),
        abroad=pl.col("country") != pl.col("home_country"),
        announced=((event == "travel_notice") & (pl.col("event_country") == pl.col("country"))).fill_null(False),
        access_changed=event.is_in(["login_new_device", "password_change", "phone_change"]).fill_null(False),
        hours_since_event=(purchase - pl.col("event_at")).dt.total_microseconds() / 3.6e9,
        risky_category=pl.col("merchant_category").is_in(["gift_cards", "crypto", "money_transfer"]),
        hour=purchase.dt.hour(),
        night=purchase.dt.hour() < 6,
    )
    return lambda: table.sink_parquet(_out(folder, "query", "floor"))


def _query_today(folder: Path) -> Work:
    import pandas as pd

    def work() -> None:
        table = pd.read_parquet(_out(folder, "asof", "ours"))
        table["amount_over_usual"] = table["amount"] / table["usual_amount"]
        table["abroad"] = table["country"] != table["home_country"]
        table["announced"] = False
        table["access_changed"] = table["event"].isin(["login_new_device", "password_change", "phone_change"])
        table["hours_since_event"] = (table["at"] - table["event_at"]).dt.total_seconds() / 3600
        table["risky_category"] = table["merchant_category"].isin(["gift_cards", "crypto", "money_transfer"])
        table["hour"] = table["at"].dt.hour
        table["night"] = table["hour"] < 6
        table.to_parquet(_out(folder, "query", "today"))

    return work


# Rules: the 50 of the benchmark `rules`; the floor is one regular expression per rule.
def _rules(folder: Path) -> Any:
    import polars as pl
    from tests.benchmarks.rules import rules

    from kommuna.steps.labeling.apply import apply_rules

    return apply_rules(pl.scan_parquet(_out(folder, "mask", "ours")), rules())


def _rules_floor(folder: Path) -> Work:
    import polars as pl
    from tests.benchmarks.rules import rules

    from kommuna.spec.rules import RegexRule

    text = pl.col("text").str.to_lowercase().str.replace_all("ё", "е", literal=True)

    def pattern(rule: Any) -> str:
        if isinstance(rule, RegexRule):
            return rule.regex
        words = [r"[\s–—-]+".join(map(re.escape, word.lower().replace("ё", "е").split())) for word in rule.any]
        return rf"(?:^|[^\p{{L}}\p{{N}}_])(?:{'|'.join(words)})(?:$|[^\p{{L}}\p{{N}}_])"

    table = pl.scan_parquet(_out(folder, "mask", "ours")).select("id", text=text)
    votes = [
        pl.when(pl.col("text").str.contains(pattern(rule))).then(pl.lit(rule.tag)).alias(rule.name)
        for rule in rules().rules
    ]
    return lambda: table.select("id", *votes).sink_parquet(_out(folder, "rules", "floor"))


def _rules_today(folder: Path) -> Work:
    import pandas as pd
    from snorkel.labeling import LabelingFunction, PandasLFApplier
    from tests.benchmarks.rules import _function, rules

    chosen = rules()
    functions = [
        LabelingFunction(rule.name, _function(rule, chosen.tags.index(rule.tag or ""))) for rule in chosen.rules
    ]

    def work() -> None:
        table = pd.read_parquet(_out(folder, "mask", "ours")).head(SAMPLE)
        table["lowered"] = table["text"].str.lower()
        table["folded"] = table["lowered"].str.replace("ё", "е")
        PandasLFApplier(functions).apply(table, progress_bar=False)

    return work


# Label model.
def _label(folder: Path) -> Any:
    import polars as pl
    from tests.benchmarks.rules import rules

    from kommuna.steps.labeling.label import label_messages

    return label_messages(pl.scan_parquet(_out(folder, "rules", "ours")), rules())


def _label_today(folder: Path) -> Work:
    import polars as pl
    from snorkel.labeling.model import LabelModel
    from tests.benchmarks.rules import rules

    chosen = rules()
    tags = {tag: number for number, tag in enumerate(chosen.tags)}
    votes = pl.scan_parquet(_out(folder, "rules", "ours")).head(SAMPLE).select(pl.exclude("id").cast(pl.String))
    matrix = votes.select(pl.all().replace_strict(tags, default=-1)).collect().to_numpy()

    def work() -> None:
        model = LabelModel(cardinality=len(tags), verbose=False)
        model.fit(matrix, n_epochs=500, seed=0, progress_bar=False)
        model.predict_proba(matrix)

    return work


# Training on texts: the operators' tags as labels that are right on four rows of five, and the demo's dev rows.
def _texts(folder: Path) -> tuple[Any, Any]:
    """Returns the messages and the dev rows, each with `id`, `text` and `tag`."""
    import polars as pl

    messages = pl.scan_parquet(_out(folder, "mask", "ours")).select("id", "text", tag="operator_tag")
    dev = pl.read_csv(folder / "demo/dev.csv", infer_schema=False).select("id", "text", "tag")
    return messages.filter(pl.col("tag").is_in(dev["tag"].unique().implode())).collect(), dev


def _soft_labels(rows: Any, tags: list[str], right: float) -> Any:
    """Returns labels as `label_messages` does: `right` for the row's tag, the same for each other one."""
    import numpy as np
    import polars as pl

    given = rows["tag"].cast(pl.Enum(tags))
    p = np.full((len(given), len(tags)), (1 - right) / (len(tags) - 1), np.float32)
    p[np.arange(len(given)), given.to_physical().to_numpy()] = right
    columns = {"id": rows["id"], "tag": given, "confidence": np.full(len(given), right, np.float32)}
    return pl.DataFrame(columns).with_columns(probabilities=pl.Series(p, dtype=pl.Array(pl.Float32, len(tags))))


def _train_text(folder: Path) -> Work:
    from kommuna.steps.training.train import train_classifier

    messages, dev = _texts(folder)
    labels = _soft_labels(messages, sorted(dev["tag"].unique()), 0.8)
    messages = messages.drop("tag").lazy()
    return lambda: train_classifier(messages, labels.lazy(), dev.lazy()).model.save(folder / "text.model")


def _sklearn_text(folder: Path, model: Any, rows: slice) -> Work:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline

    messages, dev = _texts(folder)
    texts, tags = [*dev["text"], *messages["text"][rows]], [*dev["tag"], *messages["tag"][rows]]
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, min_df=2, max_features=50_000)
    return lambda: make_pipeline(words, model).fit(texts, tags)


def _train_text_floor(folder: Path) -> Work:
    from sklearn.linear_model import SGDClassifier

    return _sklearn_text(folder, SGDClassifier(loss="log_loss", max_iter=2, tol=None, random_state=0), slice(None))


def _train_text_today(folder: Path) -> Work:
    from sklearn.linear_model import LogisticRegression

    return _sklearn_text(folder, LogisticRegression(C=3.0, max_iter=100), slice(SAMPLE))


# Training on tables: the fraud team's features; the true tags as labels that are right on nine rows of ten.
_FEATURES = ["amount", "usual_amount", "amount_over_usual", "hours_since_event", "hour", "merchant_category", "channel"]


def _transactions(folder: Path) -> tuple[Any, Any]:
    """Returns the transactions and 1,000 dev rows, each with `id`, the features and `tag`."""
    import polars as pl

    truth = pl.read_parquet(folder / "demo/truth/tx_truth.parquet")
    rows = pl.read_parquet(_out(folder, "query", "ours"), columns=["id", *_FEATURES]).join(truth, on="id")
    return rows.slice(1_000), rows.head(1_000)


def _train_table(folder: Path) -> Work:
    from kommuna.steps.training.train import train_classifier

    rows, dev = _transactions(folder)
    labels = _soft_labels(rows, ["fraud", "legit"], 0.9)
    rows = rows.drop("tag").lazy()

    def work() -> None:
        made = train_classifier(rows, labels.lazy(), dev.lazy(), classifier="boosted_trees", features=_FEATURES)
        made.model.save(folder / "table.model")

    return work


def _train_table_floor(folder: Path) -> Work:
    import polars as pl
    from sklearn.ensemble import HistGradientBoostingClassifier

    table = pl.concat(_transactions(folder))
    rows = table.select(pl.col(_FEATURES[:5]), pl.col(_FEATURES[5:]).rank("dense").cast(pl.Float64)).to_numpy()
    model = HistGradientBoostingClassifier(early_stopping=False, categorical_features=[5, 6], random_state=0)
    return lambda: model.fit(rows, table["tag"].to_numpy())


STEPS: dict[str, Step] = {
    step.name: step
    for step in (
        Step("read", _ours("read", _read), _read_floor, _read_today),
        Step("clean", _ours("clean", _clean), _clean_floor, _clean_today),
        Step("mask", _ours("mask", _mask)),
        Step("rules", _ours("rules", _rules), _rules_floor, _rules_today, sample=SAMPLE, same=False),
        Step("label", _ours("label", _label), None, _label_today, sample=SAMPLE, same=False),
        Step("train_text", _train_text, _train_text_floor, _train_text_today, sample=SAMPLE),
        Step("asof", _ours("asof", _asof), _asof_floor, _asof_today, of_messages=False),
        Step("asof_duckdb", _ours("asof_duckdb", _asof), _asof_duckdb, of_messages=False, same=False),
        Step("query", _ours("query", _query), _query_floor, _query_today, of_messages=False, same=False),
        Step("train_table", _train_table, _train_table_floor, of_messages=False),
    )
}
