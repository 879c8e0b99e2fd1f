"""Synthetic messages of a bank's clients, with the true tag and the one that an operator gave."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

from kommuna.demo import noise, pii
from kommuna.demo.phrases import (
    DAY,
    PII,
    PII_KINDS,
    SUM,
    Bools,
    Floats,
    Ints,
    phrases,
    pii_pools,
    side_pools,
    topic_pools,
    topics,
    vague_pools,
)

BLOCK = 50_000  # rows per block: peak memory does not grow with the number of messages
ZIPF = 0.85  # exponent of the topics' imbalance: of 16, the first is 10 times the last
RUSSIAN, VAGUE, TWO_TOPICS = 0.70, 0.06, 0.15  # shares of the messages
CHANNELS = ("app_chat", "email", "web_form", "call_center", "social")
OPERATORS = tuple(f"op{number:02d}" for number in range(1, 13))
TAGGED = 0.9  # share of the messages that an operator has seen
RIGHT = 0.8 + np.linspace(-0.1, 0.1, len(OPERATORS))  # each operator's share of right tags

# The most frequent kind first; a row may have two kinds.
_PII_SHARES = np.array([0.30, 0.22, 0.14, 0.16, 0.08, 0.06, 0.04])
_WITH_PII, _WITH_TWO = 0.35, 0.08
_CHANNEL_SHARES = np.array([0.50, 0.15, 0.15, 0.12, 0.08])
_CHANNEL_LEANS = {  # how many times more often than other topics a topic arrives by a channel
    "complaint_service": {"social": 5.0, "email": 1.5},
    "mortgage": {"web_form": 3.0, "email": 1.5},
    "loan_rate": {"web_form": 3.0},
    "deposit_rate": {"web_form": 2.0},
    "statement": {"email": 4.0},
    "card_lost": {"call_center": 4.0},
    "card_blocked": {"call_center": 2.0},
    "app_error": {"social": 2.5},
}


def message_blocks(rows: int, *, seed: int, stream: int, first_id: int) -> Iterator[pl.DataFrame]:
    """Generates messages, in blocks of at most `BLOCK` rows.

    Args:
        rows: number of messages.
        seed: the same seed gives the same messages.
        stream: separates draws with the same seed: 0 for the labeled month, 1 for the new messages.
        first_id: the first message's number.

    Yields:
        Columns `id`, `channel`, `text`, `operator` and `operator_tag` (null if no operator has seen the message),
        `tag` (the truth), `tags` (List: the main topic, then the second one if there is one), `pii` (List: the
        synthetic personal data in the text, as written).
    """
    for block, start in enumerate(range(0, rows, BLOCK)):
        size = min(BLOCK, rows - start)
        yield _block(np.random.default_rng([seed, stream, block]), size, first_id + start)


def arrival_times(rows: int, *, seed: int, stream: int, start: str, days: int) -> pl.Series:
    """Draws sorted times of messages, most of them by day: ISO 8601 text without a zone, whole seconds.

    Args:
        rows: the number of times.
        seed: the same seed gives the same times.
        stream: separates draws with the same seed.
        start: the first day, ISO 8601.
        days: the number of days.
    """
    rng = np.random.default_rng([seed, stream, 2**31])
    seconds = rng.integers(0, days, rows) * 86_400 + (rng.beta(3.0, 2.4, rows) * 86_399).astype(np.int64)
    times = np.datetime64(start, "s") + np.sort(seconds).astype("timedelta64[s]")
    return pl.Series("created_at", times.astype("datetime64[ms]")).dt.to_string("%Y-%m-%dT%H:%M:%S")


def _block(rng: np.random.Generator, n: int, first_id: int) -> pl.DataFrame:
    names = pl.Series(topics())
    language = (rng.random(n) >= RUSSIAN).astype(np.int64)
    topic, second = _topics(rng, n)
    text, personal = _texts(rng, language, topic, second)
    operator, operator_topic = _operators(rng, topic, second)
    return pl.DataFrame(
        {
            "number": np.arange(first_id, first_id + n),
            "channel": pl.Series(CHANNELS).gather(pl.Series(_channels(rng, topic))),
            "text": text,
            "operator": pl.Series(OPERATORS).gather(pl.Series(operator)),
            "operator_tag": names.gather(pl.Series(operator_topic)),
            "tag": names.gather(pl.Series(topic)),
            "second": _where(second >= 0, names.gather(pl.Series(np.maximum(second, 0)))),
            "seen": rng.random(n) < TAGGED,
            "pii": personal,
        }
    ).select(
        pl.format("m{}", pl.col("number").cast(pl.String).str.zfill(8)).alias("id"),
        "channel",
        "text",
        pl.when("seen").then("operator").alias("operator"),
        pl.when("seen").then("operator_tag").alias("operator_tag"),
        "tag",
        pl.concat_list("tag", "second").list.drop_nulls().alias("tags"),
        "pii",
    )


def _topics(rng: np.random.Generator, n: int) -> tuple[Ints, Ints]:
    """Draws main topics by frequency, and second topics (-1: none), half of them easily confused with the first."""
    count = len(topics())
    shares = 1.0 / np.arange(1, count + 1) ** ZIPF
    shares /= shares.sum()
    topic = rng.choice(count, n, p=shares)
    other = np.where(rng.random(n) < 0.5, _alike(rng, topic), rng.choice(count, n, p=shares))
    return topic, np.where((rng.random(n) < TWO_TOPICS) & (other != topic), other, -1)


def _alike(rng: np.random.Generator, topic: Ints) -> Ints:
    """Draws, for each topic, one that it is easily confused with."""
    number = {name: i for i, name in enumerate(topics())}
    alike = np.array([[number[like] for like in each.like] for each in phrases().topics.values()])
    return np.asarray(alike[topic, rng.integers(0, alike.shape[1], len(topic))])


def _operators(rng: np.random.Generator, topic: Ints, second: Ints) -> tuple[Ints, Ints]:
    """Draws each message's operator and tag: right at the operator's own rate, otherwise a similar topic."""
    n = len(topic)
    operator = rng.integers(0, len(OPERATORS), n)
    wrong = np.where((second >= 0) & (rng.random(n) < 0.6), second, _alike(rng, topic))
    return operator, np.where(rng.random(n) < RIGHT[operator], topic, wrong)


def _channels(rng: np.random.Generator, topic: Ints) -> Ints:
    weights = np.tile(_CHANNEL_SHARES, (len(topics()), 1))
    for name, leans in _CHANNEL_LEANS.items():
        for channel, times in leans.items():
            weights[topics().index(name), CHANNELS.index(channel)] *= times
    return _pick(rng, (weights / weights.sum(axis=1, keepdims=True))[topic])


def _pick(rng: np.random.Generator, shares: Floats) -> Ints:
    """Draws a column number per row by the row's probabilities (`n x k`, each row sums to 1)."""
    picked: Ints = (rng.random(len(shares))[:, None] > shares.cumsum(axis=1)[:, :-1]).sum(axis=1)
    return picked


def _texts(rng: np.random.Generator, language: Ints, topic: Ints, second: Ints) -> tuple[pl.Series, pl.Series]:
    """Generates texts, and the personal data in each."""
    n = len(topic)
    vague = rng.random(n) < VAGUE
    main = _either(vague, vague_pools().draw(rng, language, topic), topic_pools().draw(rng, language, topic))
    also = _where(second >= 0, topic_pools().draw(rng, language, np.maximum(second, 0)))
    swapped = (second >= 0) & (rng.random(n) < 0.15)
    wordy = np.where(topic == topics().index("complaint_service"), 0.6, 0.22)
    aside = _where(rng.random(n) < wordy, side_pools().draw(rng, language, np.zeros(n, np.int64)))
    early = rng.random(n) < 0.4
    kinds = rng.choice(len(PII_KINDS), (2, n), p=_PII_SHARES)
    has = rng.random(n)
    wanted = (has < _WITH_PII, has < _WITH_TWO)
    around = [_where(wanted[i], pii_pools().draw(rng, language, kinds[i])) for i in (0, 1)]
    parts = [
        _where(rng.random(n) < 0.45, side_pools().draw(rng, language, np.ones(n, np.int64))),
        _where(early, aside),
        _either(swapped, also, main),
        _either(swapped, main, also),
        _where(~early, aside),
        *around,
        _where(rng.random(n) < 0.25, side_pools().draw(rng, language, np.full(n, 2))),
    ]
    text = noise.odd_case(noise.typos(_joined(rng, parts), rng), rng)
    for _ in range(3):
        text = _filled(text, SUM, _amounts(rng, language))
        text = _filled(text, DAY, _days(rng, n))
    values = [_personal(rng, language, kinds[i], wanted[i]) for i in (0, 1)]
    for value in values:
        text = _filled(text, PII, value)
    personal = pl.DataFrame({"a": values[0], "b": values[1]})
    return text, personal.select(pl.concat_list("a", "b").list.drop_nulls().alias("pii"))["pii"]


def _joined(rng: np.random.Generator, parts: list[pl.Series]) -> pl.Series:
    """Joins the parts of a message to one line: as sentences, with commas, or without punctuation."""
    n = len(parts[0])
    frame = pl.DataFrame({f"p{i}": part for i, part in enumerate(parts)}).with_columns(
        style=pl.Series(rng.choice(3, n, p=[0.5, 0.3, 0.2])),
        end=pl.Series(rng.choice(3, n, p=[0.5, 0.35, 0.15])),
    )
    style, end = pl.col("style"), pl.col("end")
    between = pl.when(style == 0).then(pl.lit(". ")).when(style == 1).then(pl.lit(", ")).otherwise(pl.lit(" "))
    shown = []
    for i in range(len(parts)):
        part = pl.col(f"p{i}")
        sentence = pl.concat_str(part.str.slice(0, 1).str.to_uppercase(), part.str.slice(1))
        shown.append(pl.when(style == 0).then(sentence).otherwise(part) + between)
    line = pl.concat_str(shown, ignore_nulls=True).str.replace(r"[., ]+$", "")
    fixed = line.str.replace_all("?. ", "? ", literal=True).str.replace_all("?, ", "? ", literal=True)
    first = pl.concat_str(fixed.str.slice(0, 1).str.to_uppercase(), fixed.str.slice(1))
    mark = pl.when((end == 0) & ~fixed.str.ends_with("?")).then(pl.lit(".")).otherwise(pl.lit(""))
    return frame.select("style", (pl.when(end < 2).then(first).otherwise(fixed) + mark).alias("text"))["text"]


def _amounts(rng: np.random.Generator, language: Ints) -> pl.Series:
    n = len(language)
    frame = pl.DataFrame(
        {
            "form": np.where(language == 0, rng.integers(0, 4, n), 4 + rng.integers(0, 3, n)),
            "thousands": rng.integers(1, 90, n),
            "hundreds": rng.integers(1, 100, n) * 10,
        }
    )
    forms = ["{} {} р", "{}{} руб", "{} {} рублей", "{}{}р", "{}{} rub", "${}{}", "{},{} roubles"]
    value = pl.lit(None, pl.String)
    for number, form in enumerate(forms):
        hundreds = pl.col("hundreds").cast(pl.String).str.zfill(3)
        value = pl.when(pl.col("form") == number).then(pl.format(form, "thousands", hundreds)).otherwise(value)
    return frame.select("form", value.alias("value"))["value"]


def _days(rng: np.random.Generator, n: int) -> pl.Series:
    days = [f"{day:02d}.{month:02d}{year}" for month in (8, 9) for day in range(1, 31) for year in ("", ".2026")]
    return pl.Series(days).gather(pl.Series(rng.integers(0, len(days), n)))


def _personal(rng: np.random.Generator, language: Ints, kinds: Ints, wanted: Bools) -> pl.Series:
    """Generates personal data of each row's kind; null where none is wanted."""
    values = pl.Series("value", [None], dtype=pl.String).new_from_index(0, len(kinds))
    for number, kind in enumerate(PII_KINDS):
        rows = np.flatnonzero(wanted & (kinds == number))
        if len(rows):
            values = values.scatter(pl.Series(rows), pii.make(kind, rng, language[rows] == 0))
    return values


def _filled(texts: pl.Series, mark: str, values: pl.Series) -> pl.Series:
    """Replaces the first placeholder of each text by the row's value."""
    frame = pl.DataFrame({"text": texts, "value": values})
    return frame.select(pl.col("text").str.replace(mark, pl.col("value").fill_null(""), literal=True))["text"]


def _where(keep: Bools, values: pl.Series) -> pl.Series:
    frame = pl.DataFrame({"keep": keep, "value": values})
    return frame.select(pl.when("keep").then("value").alias("value"))["value"]


def _either(choice: Bools, yes: pl.Series, no: pl.Series) -> pl.Series:
    frame = pl.DataFrame({"choice": choice, "yes": yes, "no": no})
    return frame.select(pl.when("choice").then("yes").otherwise("no").alias("value"))["value"]
