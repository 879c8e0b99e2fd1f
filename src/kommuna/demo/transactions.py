"""Synthetic card transactions and customer events, in which fraud shows only in combinations of facts.

A scenario is drawn first (an everyday purchase, a journey, a new phone, an account takeover …); it determines amount,
country, category and events. Whether the transaction is fraud is then drawn from the *observable* facts, by a logistic
model with interactions and noise: no single column reveals it, and no rule is always right.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import polars as pl

from kommuna.demo.phrases import Bools, Floats, Ints

START, DAYS = "2026-09-01", 30
NEW_START, NEW_DAYS = "2026-10-01", 6

COUNTRIES = ("RU", "KZ", "AM", "GE", "TR", "DE", "AE", "TH", "GB", "US", "NG", "VN")
CATEGORIES = (
    "groceries",
    "restaurants",
    "transport",
    "pharmacy",
    "clothes",
    "utilities",
    "electronics",
    "travel",
    "jewelry",
    "gift_cards",
    "crypto",
    "money_transfer",
)
CHANNELS = ("pos", "online", "atm")
EVENTS = (
    "login_new_device",
    "password_change",
    "phone_change",
    "limit_change",
    "travel_notice",
    "card_reissue",
    "address_change",
)
_CURRENCY = {"RU": "RUB", "KZ": "KZT", "AM": "AMD", "GE": "GEL", "TR": "TRY", "DE": "EUR", "AE": "AED", "TH": "THB"}
_CURRENCY |= {"GB": "GBP", "US": "USD", "NG": "NGN", "VN": "VND"}
_HOME_SHARES = np.array([0.78, 0.08, 0.05, 0.05, 0.04])  # of the first countries

_EVERYDAY, _JOURNEY, _BIG, _FOREIGN_SHOP, _NEW_PHONE, _TAKEOVER, _STOLEN = range(7)
_SCENARIO_SHARES = np.array([0.740, 0.07, 0.05, 0.035, 0.035, 0.052, 0.018])
#                          groc  rest  tran  phar  clot  util  elec  trav  jewe  gift  cryp  m_tr
_CATEGORY_SHARES = np.array(
    [
        [0.33, 0.15, 0.14, 0.07, 0.08, 0.06, 0.04, 0.02, 0.01, 0.02, 0.01, 0.07],
        [0.15, 0.30, 0.15, 0.04, 0.10, 0.00, 0.04, 0.15, 0.03, 0.01, 0.00, 0.03],
        [0.02, 0.04, 0.01, 0.01, 0.10, 0.05, 0.33, 0.22, 0.10, 0.03, 0.03, 0.06],
        [0.00, 0.00, 0.00, 0.02, 0.36, 0.00, 0.30, 0.14, 0.04, 0.07, 0.05, 0.02],
        [0.28, 0.14, 0.12, 0.06, 0.08, 0.07, 0.10, 0.03, 0.01, 0.02, 0.01, 0.08],
        [0.03, 0.01, 0.01, 0.01, 0.06, 0.01, 0.20, 0.05, 0.08, 0.17, 0.15, 0.22],
        [0.12, 0.08, 0.04, 0.02, 0.14, 0.00, 0.26, 0.02, 0.20, 0.10, 0.00, 0.02],
    ]
)
_CHANNEL_SHARES = np.array(
    [
        [0.62, 0.33, 0.05],
        [0.70, 0.15, 0.15],
        [0.45, 0.50, 0.05],
        [0.00, 1.00, 0.00],
        [0.55, 0.40, 0.05],
        [0.06, 0.88, 0.06],
        [0.60, 0.10, 0.30],
    ]
)
_ABROAD = np.array([0.01, 1.0, 0.05, 1.0, 0.05, 0.65, 0.60])  # share of each scenario's transactions abroad
_TIMES_USUAL = np.array([1.0, 1.3, 6.0, 1.3, 1.1, 5.0, 2.2])  # median of amount / usual amount
_AT_NIGHT = np.array([0.05, 0.10, 0.04, 0.15, 0.06, 0.35, 0.30])


class Transactions(NamedTuple):
    """The tables: `transactions`, sorted by `at`, with the hidden `tag`; and `events`, sorted by `at`."""

    transactions: pl.DataFrame
    events: pl.DataFrame


def transaction_tables(rows: int, *, seed: int, new_rows: int = 0) -> Transactions:
    """Generates transactions of the month from `START`, then `new_rows` of the days from `NEW_START`.

    Args:
        rows: transactions of the month.
        seed: the same seed gives the same transactions.
        new_rows: transactions of the later days, by the same customers.
    """
    rng = np.random.default_rng([seed, 2])
    n = rows + new_rows
    scenario = rng.choice(len(_SCENARIO_SHARES), n, p=_SCENARIO_SHARES)
    seconds = _times(rng, scenario, rows)
    # Rows are sorted by time, so that an id reveals nothing.
    order = np.concatenate(
        [np.argsort(seconds[:rows], kind="stable"), rows + np.argsort(seconds[rows:], kind="stable")]
    )
    scenario, seconds = scenario[order], seconds[order]

    customers = max(n // 20, 50)
    customer = rng.integers(0, customers, n)
    home = rng.choice(len(_HOME_SHARES), customers, p=_HOME_SHARES)[customer]
    usual = np.exp(rng.normal(7.6, 0.7, customers))[customer]
    away = (home + rng.integers(1, len(COUNTRIES), n)) % len(COUNTRIES)
    country = np.where(rng.random(n) < _ABROAD[scenario], away, home)
    channel = _pick(rng, _CHANNEL_SHARES[scenario])
    spread = np.where(np.isin(scenario, (_BIG, _TAKEOVER)), 0.45, 0.65)
    frame = pl.DataFrame(
        {
            "id": pl.Series(np.arange(1, n + 1)).cast(pl.String).str.zfill(8),
            "at": seconds,
            "customer_id": pl.Series(customer + 1).cast(pl.String).str.zfill(6),
            "amount": np.round(usual * _TIMES_USUAL[scenario] * np.exp(rng.normal(0, spread)), 2),
            "merchant_category": pl.Series(CATEGORIES).gather(pl.Series(_pick(rng, _CATEGORY_SHARES[scenario]))),
            "country": pl.Series(COUNTRIES).gather(pl.Series(country)),
            "home_country": pl.Series(COUNTRIES).gather(pl.Series(home)),
            "channel": pl.Series(CHANNELS).gather(pl.Series(channel)),
            "card_present": channel != CHANNELS.index("online"),
            "usual_amount": np.round(usual, -1),
        }
    ).with_columns(pl.format("t{}", "id").alias("id"), pl.format("c{}", "customer_id").alias("customer_id"))
    events = _events(rng, frame, scenario)
    fraud = rng.random(n) < _fraud_probability(frame, events)
    done = frame.with_columns(
        _as_time("at"),
        pl.col("country").replace_strict(_CURRENCY).alias("currency"),
        tag=pl.Series(np.where(fraud, "fraud", "legit")),
    )
    columns = ["id", "at", "customer_id", "amount", "currency", "merchant_category", "country", "home_country"]
    columns += ["channel", "card_present", "usual_amount", "tag"]
    return Transactions(done.select(columns), events.with_columns(_as_time("at"), _as_time("at").alias("event_at")))


def _times(rng: np.random.Generator, scenario: Ints, rows: int) -> Ints:
    """Draws times in seconds since `START`: the month's rows, then the new ones."""
    n = len(scenario)
    new_from = (np.datetime64(NEW_START) - np.datetime64(START)).astype(int)
    day = np.where(np.arange(n) < rows, rng.integers(0, DAYS, n), new_from + rng.integers(0, NEW_DAYS, n))
    second = np.where(
        rng.random(n) < _AT_NIGHT[scenario], rng.random(n) * 6 * 3600, 7 * 3600 + rng.beta(2.2, 1.8, n) * 17 * 3600 - 1
    )
    return np.asarray(day * 86_400 + second.astype(np.int64))


def _events(rng: np.random.Generator, frame: pl.DataFrame, scenario: Ints) -> pl.DataFrame:
    """Generates events that belong to a transaction's scenario, and unrelated ones at any time."""
    n = len(scenario)
    at = frame["at"].to_numpy()
    kind, before = np.full(n, -1), np.zeros(n)  # event number and hours before the transaction
    for which, share, shares, hours in (
        (_JOURNEY, 0.65, {"travel_notice": 1.0}, rng.uniform(12, 200, n)),
        (_NEW_PHONE, 1.0, {"login_new_device": 0.8, "phone_change": 0.2}, rng.exponential(10, n)),
        (
            _TAKEOVER,
            0.9,
            {"login_new_device": 0.5, "password_change": 0.2, "phone_change": 0.2, "limit_change": 0.1},
            None,
        ),
        (_BIG, 0.3, {"limit_change": 1.0}, rng.exponential(6, n)),
    ):
        chosen = (scenario == which) & (rng.random(n) < share)
        drawn = rng.choice([EVENTS.index(name) for name in shares], n, p=list(shares.values()))
        kind = np.where(chosen, drawn, kind)
        before = np.where(chosen, rng.exponential(0.9, n) if hours is None else hours, before)
    with_event = np.flatnonzero(kind >= 0)
    related = _event_rows(
        frame["customer_id"].gather(pl.Series(with_event)),
        at[with_event] - 60 - (before[with_event] * 3600).astype(np.int64),
        kind[with_event],
        # A travel notice names the destination; other events are recorded in the home country.
        np.where(
            kind[with_event] == EVENTS.index("travel_notice"),
            frame["country"].gather(pl.Series(with_event)).to_numpy(),
            frame["home_country"].gather(pl.Series(with_event)).to_numpy(),
        ),
    )
    others = rng.integers(0, n, n // 4)
    drawn = rng.choice(len(EVENTS), len(others), p=[0.30, 0.15, 0.06, 0.16, 0.08, 0.15, 0.10])
    span = at.max() - at.min() if n else 0
    countries = frame["home_country"].gather(pl.Series(others)).to_numpy().astype(str)
    abroad = np.asarray(COUNTRIES)[rng.integers(0, len(COUNTRIES), len(others))]
    countries = np.where(drawn == EVENTS.index("travel_notice"), abroad, countries)
    background = _event_rows(
        frame["customer_id"].gather(pl.Series(others)),
        (rng.random(len(others)) * span).astype(np.int64),
        drawn,
        countries,
    )
    return pl.concat([related, background]).sort("at", "customer_id", "event", maintain_order=True)


def _event_rows(customers: pl.Series, at: Ints, kinds: Ints, countries: npt.NDArray[np.str_]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "customer_id": customers,
            "at": at,
            "event": pl.Series(EVENTS).gather(pl.Series(kinds)),
            "event_country": pl.Series(countries, dtype=pl.String),
        }
    )


def _fraud_probability(frame: pl.DataFrame, events: pl.DataFrame) -> Floats:
    """Computes the true probability of fraud: log-odds of facts that a bank can observe, most of them combined."""
    timed = events.with_columns(pl.col("at").alias("event_at"))
    seen = frame.sort("at").join_asof(timed, on="at", by="customer_id", strategy="backward", check_sortedness=False)
    seen = frame.select("id").join(seen, on="id", how="left", maintain_order="left")
    hours = ((seen["at"] - seen["event_at"]) / 3600).fill_null(1e6).to_numpy()
    event = seen["event"].fill_null("none")
    access = event.is_in(["login_new_device", "password_change", "phone_change"]).to_numpy()
    fresh, recent = access & (hours < 2), access & (hours < 24)
    over = np.log((seen["amount"] / seen["usual_amount"]).to_numpy())
    abroad = (seen["country"] != seen["home_country"]).to_numpy()
    absent = ~seen["card_present"].to_numpy()
    risky = seen["merchant_category"].is_in(["gift_cards", "crypto", "money_transfer"]).to_numpy()
    goods = seen["merchant_category"].is_in(["electronics", "jewelry"]).to_numpy()
    night = (seen["at"].to_numpy() % 86_400) < 6 * 3600
    announced = (event == "travel_notice").to_numpy() & (hours < 240)
    announced &= (seen["event_country"] == seen["country"]).fill_null(False).to_numpy()
    large = 1 / (1 + np.exp(-4 * (over - np.log(2.8))))
    facts: list[tuple[float, Bools | Floats]] = [
        (3.6, fresh & abroad),
        (3.4, fresh * large),
        (1.4, recent * large * absent),
        (2.4, (risky & abroad & absent)),
        (2.2, risky * large * absent),
        (3.6, (abroad & ~absent & night) * np.clip(over, 0, 1.5)),
        (2.0, abroad * large * ~announced),
        (1.3, goods * large * night),
        (0.9, abroad & absent),
        (-2.8, announced & ~risky),
        (-1.2, (event == "limit_change").to_numpy() & (hours < 24) & ~abroad),
    ]
    odds = -4.9 + sum(weight * np.asarray(fact, dtype=np.float64) for weight, fact in facts)
    return np.asarray(1 / (1 + np.exp(-odds)))


def _as_time(column: str) -> pl.Expr:
    """Formats seconds since `START` as ISO 8601 text without a zone."""
    start = np.datetime64(START, "s").astype(int)
    return pl.from_epoch(pl.col(column) + int(start), time_unit="s").dt.to_string("%Y-%m-%dT%H:%M:%S").alias(column)


def _pick(rng: np.random.Generator, shares: Floats) -> Ints:
    """Draws a column number per row by the row's probabilities (`n x k`, each row sums to 1)."""
    picked: Ints = (rng.random(len(shares))[:, None] > shares.cumsum(axis=1)[:, :-1]).sum(axis=1)
    return picked
