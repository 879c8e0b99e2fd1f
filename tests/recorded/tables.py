"""Small tables for the cases, made by plain arithmetic, so that no step's input is another step's result.

So where the results of one step change, the records of the others stay.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from kommuna.spec.rules import RuleSet

TAGS = ["card", "loan", "вклад"]
PHRASES = {
    "card": ["lost my card", "карта заблокирована", "card is stolen", "где моя КАРТА"],
    "loan": ["want a loan", "ставка по кредиту", "loan rate", "досрочное погашение кредита"],
    "вклад": ["open a deposit", "проценты по вкладам", "срок вклада", "savings account"],
}
FILLERS = ["hello", "добрый день", "please", "срочно", "сколько ждать?", "my app", "ещё раз"]
RULES: list[dict[str, Any]] = [
    {"name": "card_words", "tag": "card", "any": ["card", "карта"]},
    {"name": "card_stolen", "tag": "card", "regex": r"(lost|stolen|заблокирован\w*)"},
    {"name": "loan_stems", "tag": "loan", "any": ["кредит", "погашение"], "stem": "russian", "group": "words"},
    {"name": "loan_words", "tag": "loan", "any": ["loan"], "group": "words"},
    {"name": "deposit", "tag": "вклад", "any": ["вклады", "срок"], "stem": "russian"},
    {"name": "savings", "tag": "вклад", "regex": "deposit|savings"},
    {"name": "large", "tag": "loan", "sql": "amount / 2 > 200 AND LENGTH(text) > 25"},
    {"name": "greets", "tag": "вклад", "any": ["hello"], "against": True},
    {"name": "never", "tag": "card", "any": ["nowhere"]},
    {"name": "always", "tag": "loan", "sql": "id IS NOT NULL"},
]


def messages(rows: int, *, first: int = 0) -> pl.DataFrame:
    """Returns messages whose tags follow from words, every ninth ambiguous or empty; `first` is the first number."""
    tags, texts = [], []
    for i in range(first, first + rows):
        tag = TAGS[(i * 7 + i // 5) % 3]
        phrase = PHRASES[tag][(i * 3 + i // 7) % 4]
        if i % 9 == 4:
            phrase = f"card and loan {i % 4}"
        elif i % 9 == 8:
            phrase = "вопрос"
        tags.append(tag)
        texts.append(f"{FILLERS[i % 7]}, {phrase} {FILLERS[(i * 5 + 2) % 7]}")
    numbers = range(first, first + rows)
    return pl.DataFrame(
        {
            "id": [f"m{i}" for i in numbers],
            "text": texts,
            "amount": [None if i % 11 == 0 else float(i * 37 % 500) for i in numbers],
            "channel": [("chat", "почта", None, "chat", "office")[i * 3 % 5] for i in numbers],
            "tag": tags,
        }
    )


def respelled(table: pl.DataFrame) -> pl.DataFrame:
    """Returns the rows with other spellings in every third: a stress mark, full width, a soft hyphen, a direction mark."""
    text = pl.col("text")
    for plain, odd in (
        ("карта", "ка\u0301рта"),
        ("card", "ｃａｒｄ"),
        ("кредит", "кре\u00adдит"),
        ("loan", "lo\u200ean"),
    ):
        text = text.str.replace_all(plain, odd, literal=True)
    return table.with_columns(text=pl.when(pl.int_range(pl.len()) % 3 == 0).then(text).otherwise("text"))


def several(table: pl.DataFrame) -> pl.DataFrame:
    """Returns the rows with several tags, or none."""
    both = pl.col("text").str.contains("card and loan")
    none = pl.col("text").str.contains("вопрос")
    tags = pl.when(both).then(pl.lit("card|loan")).when(none).then(pl.lit("")).otherwise(pl.col("tag"))
    return table.with_columns(tag=tags.str.split("|").list.eval(pl.element().filter(pl.element() != "")))


def rule_set(*more: dict[str, Any], most: int = 9, **fields: Any) -> RuleSet:
    """Returns the first rules, and more."""
    return RuleSet.read({"tags": TAGS, "rules": [*RULES[:most], *more], **fields}, where="recorded")


def votes(table: pl.DataFrame, rules: RuleSet) -> pl.LazyFrame:
    """Returns votes of the first nine rules: mostly right, often missing."""
    columns: dict[str, pl.Series] = {"id": table["id"]}
    kind = pl.Int8() if rules.multi_label else pl.Enum(rules.categories)
    for j, rule in enumerate(rules.rules):
        cast: list[Any] = []
        for i, tags in enumerate(table["tag"].to_list()):
            speaks = rule.name == "always" or (rule.name != "never" and (i * (2 * j + 3) + j) % 5 < 2)
            right = ((rule.tag in tags) != rule.against) or (i + j) % 6 == 0
            vote: Any = int(not rule.against) if rules.multi_label else f"{'!' if rule.against else ''}{rule.tag}"
            cast.append(vote if speaks and (right or rule.name == "always") else None)
        columns[rule.name] = pl.Series(rule.name, cast, dtype=kind)
    return pl.DataFrame(columns).lazy()


def labels(table: pl.DataFrame, *, multi_label: bool = False) -> pl.DataFrame:
    """Returns labels as of a label model: right on five of six rows, missing on every tenth."""
    p = _probabilities(table, multi_label=multi_label, shift=0)
    known = pl.Series([i % 10 != 7 for i in range(table.height)])
    enum = pl.Enum(TAGS)
    if multi_label:
        given = [[TAGS[k] for k in np.flatnonzero(row >= 0.5)] for row in p]
        tag, sure = pl.Series("tags", given, dtype=pl.List(enum)), np.maximum(p, 1 - p).min(axis=1)
    else:
        tag, sure = pl.Series("tag", [TAGS[k] for k in p.argmax(axis=1)], dtype=enum), p.max(axis=1)
    made = pl.DataFrame([table["id"], tag, pl.Series("confidence", sure, dtype=pl.Float32), _array(p)])
    return made.with_columns(pl.when(known).then(pl.col(name)).alias(name) for name in made.columns[1:])


def cross_fitted(table: pl.DataFrame, dev: pl.DataFrame, *, multi_label: bool = False) -> pl.DataFrame:
    """Returns cross-fitted labels for five folds of the dev rows."""
    vote = [_lines(dev, True, [i % 5 for i in range(dev.height)], multi_label, shift=1)]
    labeled = table.filter(pl.Series([i % 10 != 7 for i in range(table.height)]))
    vote += [_lines(labeled, False, [fold] * labeled.height, multi_label, shift=fold + 2) for fold in range(5)]
    return pl.concat(vote)


def _lines(table: pl.DataFrame, dev: bool, fold: list[int], multi_label: bool, *, shift: int) -> pl.DataFrame:
    p = _array(_probabilities(table, multi_label=multi_label, shift=shift))
    columns = [pl.Series("dev", [dev] * table.height), table["id"], pl.Series("fold", fold, dtype=pl.Int8), p]
    return pl.DataFrame(columns)


def _array(p: NDArray[np.float32]) -> pl.Series:
    return pl.Series("probabilities", p, dtype=pl.Array(pl.Float32, len(TAGS)))


def _probabilities(table: pl.DataFrame, *, multi_label: bool, shift: int) -> NDArray[np.float32]:
    p = np.zeros((table.height, len(TAGS)), np.float32)
    for i, tags in enumerate(several(table)["tag"] if multi_label else table["tag"].to_list()):
        wrong = (i + shift) % 6 == 0
        for k, tag in enumerate(TAGS):
            has = (tag in tags) if not wrong else TAGS[(k + 1) % 3] in tags
            p[i, k] = (0.6 if has else 0.05) + 0.01 * ((i * 7 + k * 5 + shift) % 30)
    return p if multi_label else p / p.sum(axis=1, keepdims=True)
