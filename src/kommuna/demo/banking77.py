"""Converts Banking77, or any folder with the same files, to the layout of the support team's demo data."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import structlog
import yaml

from kommuna.demo.files import write_together
from kommuna.demo.write import DemoData
from kommuna.errors import DataError, MissingColumn, RulesError, SpecError, nearest
from kommuna.spec.rules import RuleSet

log = structlog.get_logger()

_KEYWORDS, _RULES = "gpt4o_keywords.json", "rules.yaml"
_FORM = "a folder with train.csv and test.csv (columns text, category)"


def write_banking_data(source: Path, folder: Path, *, dev_rows: int = 1_000, seed: int = 7) -> DemoData:
    """Writes the demo files from real messages with real labels; all files appear together, at the end.

    Guaranteed columns: `id` and `text`, and `tag` in `dev.csv` and `gold.csv`. There is no `created_at`, `channel`,
    `operator`, `operator_tag` or `tags`. Ids are `train-17` and `test-3`: the row's number in its source file, from 0.

    - `messages.csv`: the training rows that are not in dev, without labels.
    - `dev.csv`: `dev_rows` of the training rows, drawn at random.
    - `gold.csv`: the test rows. Some of their texts may also occur in training rows (6 in Banking77, ignoring case
      and spaces): they are kept.
    - `new_messages.csv`: the test rows without labels, under the same ids.
    - `rules.yaml`: the source's file, or one `any` rule per keyword, named `category.keyword`.
    - `truth/truth.parquet`: `id`, `tag`, `tags` of every row.

    Args:
        source: a folder with `train.csv`, `test.csv` (columns `text`, `category`), and `rules.yaml` or, if there is
            none, `gpt4o_keywords.json` (`{category: [keyword, ...]}`). An optional `categories.json` orders the tags.
        folder: the target; created if it is missing.
        dev_rows: labeled rows to write and weight rules with.
        seed: seed of the choice of dev rows.

    Raises:
        SpecError: a file is missing or cannot be read, or `dev_rows` is out of range.
        MissingColumn: a file has no `text` or no `category`.
        DataError: a row has no text or no category.
        RulesError: the keywords or rules do not match the categories.
    """
    if not source.is_dir():
        raise SpecError(f"no folder {source}", fix=f"name {_FORM}")
    train, test = _labeled(source / "train.csv", "train"), _labeled(source / "test.csv", "test")
    if not 1 <= dev_rows < train.height:
        raise SpecError(
            f"dev_rows is {dev_rows}, but train.csv has {train.height} rows",
            where=str(source / "train.csv"),
            fix=f"use 1 to {train.height - 1}: the other rows become messages.csv",
        )
    rules = _rules(source, _tags(source, train, test))
    chosen = np.zeros(train.height, np.bool_)
    chosen[np.random.default_rng([seed, 5]).permutation(train.height)[:dev_rows]] = True
    tables = {
        "messages.csv": train.filter(pl.Series(~chosen)).drop("tag"),
        "dev.csv": train.filter(pl.Series(chosen)),
        "gold.csv": test,
        "new_messages.csv": test.drop("tag"),
    }
    truth = pl.concat([train, test]).select("id", "tag", pl.concat_list("tag").alias("tags"))
    with write_together(folder) as draft:
        (draft / "truth").mkdir()
        for name, table in tables.items():
            table.write_csv(draft / name)
        truth.write_parquet(draft / "truth" / "truth.parquet")
        data = rules.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        text = yaml.safe_dump(data, allow_unicode=True, sort_keys=False, width=120)
        (draft / "rules.yaml").write_text(text, encoding="utf-8")
    rows = {name: table.height for name, table in tables.items()} | {"truth/truth.parquet": truth.height}
    log.info("demo.written", folder=str(folder), rows=sum(rows.values()), rules=len(rules.rules), tags=len(rules.tags))
    return DemoData(folder, rows)


def _labeled(path: Path, prefix: str) -> pl.DataFrame:
    """Reads a file as columns `id`, `text`, `tag`."""
    if not path.is_file():
        raise SpecError(f"no file {path.name} in {path.parent}", where=str(path), fix=f"name {_FORM}")
    try:
        table = pl.read_csv(path, infer_schema=False)
    except (pl.exceptions.PolarsError, UnicodeDecodeError) as error:
        reason = (str(error).splitlines() or ["unknown"])[0]
        raise SpecError(
            f"{path.name} cannot be read as CSV: {reason}", where=str(path), fix="save it as UTF-8 CSV"
        ) from None
    for column in ("text", "category"):
        if column not in table.columns:
            raise MissingColumn(
                f"{path.name} has no column '{column}'{nearest(column, table.columns)}",
                where=str(path),
                fix=f"its columns are: {', '.join(table.columns)}",
            )
        empty = table.with_row_index("row").filter(pl.col(column).fill_null("").str.strip_chars() == "")
        if empty.height:
            raise DataError(
                f"{path.name}: row {empty['row'][0]} has no {column} ({empty.height} such rows)",
                where=str(path),
                fix="remove the rows or fill them; rows count from 0 below the header",
            )
    return table.with_row_index("row").select(
        pl.format("{}-{}", pl.lit(prefix), "row").alias("id"), "text", pl.col("category").alias("tag")
    )


def _tags(source: Path, train: pl.DataFrame, test: pl.DataFrame) -> list[str]:
    """Returns the categories in the order of `categories.json` if it exists, then by name."""
    found = set(train["tag"]) | set(test["tag"])
    path = source / "categories.json"
    listed = _json(path) if path.is_file() else []
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise SpecError("categories.json is not a list of names", where=str(path))
    return [*dict.fromkeys(listed), *sorted(found - set(listed))]


def _rules(source: Path, tags: list[str]) -> RuleSet:
    if (source / _RULES).is_file():
        rules = RuleSet.from_yaml(source / _RULES)
        unknown = [tag for tag in tags if tag not in rules.tags]
        if unknown:
            raise RulesError(
                f"the category '{unknown[0]}' is not a tag of {_RULES}{nearest(unknown[0], rules.tags)}",
                where=str(source / _RULES),
                fix="add it to tags",
            )
        return rules
    path = source / _KEYWORDS
    if not path.is_file():
        raise SpecError(
            f"no rules in {source}", where=f"looked for {_RULES} and {_KEYWORDS}", fix="write one of these two files"
        )
    return keyword_rules(_json(path), tags, where=str(path))


def keyword_rules(keywords: Any, tags: list[str], *, where: str = "") -> RuleSet:
    """Makes one `any` rule per keyword: each keyword is one labeling function, as in BoxWRENCH.

    Args:
        keywords: `{tag: [keyword, ...]}`.
        tags: every tag, in order.
        where: the file, for messages.

    Raises:
        RulesError: a tag is unknown, or the keywords have another form.

    >>> [rule.name for rule in keyword_rules({"age_limit": ["age", "Age!"]}, ["age_limit"]).rules]
    ['age_limit.age', 'age_limit.age-2']
    """
    if not isinstance(keywords, dict) or not keywords:
        raise RulesError("the keywords are not a mapping of category to keywords", where=where)
    rules: list[dict[str, Any]] = []
    names: set[str] = set()
    for tag, words in keywords.items():
        if tag not in tags:
            raise RulesError(f"the keywords have the unknown category '{tag}'{nearest(tag, tags)}", where=where)
        if not isinstance(words, list) or not all(isinstance(word, str) and word.strip() for word in words):
            raise RulesError(f"the keywords of '{tag}' are not a list of words: {words!r}", where=where)
        for word in words:
            name = unused = f"{_slug(tag, '_')}.{_slug(word, '-')}"
            number = 2
            while unused in names:
                unused, number = f"{name}-{number}", number + 1
            names.add(unused)
            rules.append({"name": unused, "tag": tag, "any": [word]})
    return RuleSet.read({"tags": tags, "rules": rules}, where=where)


def _slug(text: str, joint: str) -> str:
    return re.sub(r"\W+", joint, text.strip().lower() if joint == "-" else text.strip()).strip(joint) or "keyword"


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise SpecError(f"{path.name} is not valid JSON: {error}", where=str(path)) from None
