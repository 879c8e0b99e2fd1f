from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest

from kommuna.demo.banking77 import keyword_rules, write_banking_data
from kommuna.errors import DataError, MissingColumn, RulesError, SpecError
from kommuna.spec.rules import RuleSet


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "train.csv").write_text(
        "text,category\n" + "".join(f"fee number {i},fees\nlost {i},lost\n" for i in range(10))
    )
    (folder / "test.csv").write_text('text,category\n"what, a fee?",fees\nlost it,lost?\n')
    (folder / "gpt4o_keywords.json").write_text(json.dumps({"fees": ["fee", "a charge"], "lost?": ["lost"]}))
    return folder


def test_a_small_folder_is_converted_to_the_support_teams_layout(source: Path, tmp_path: Path) -> None:
    made = write_banking_data(source, tmp_path / "out", dev_rows=5)
    rows = {"messages.csv": 15, "dev.csv": 5, "gold.csv": 2, "new_messages.csv": 2, "truth/truth.parquet": 22}
    assert made.rows == rows
    tables = {name: pl.read_csv(made.folder / name) for name in rows if name.endswith(".csv")}
    assert tables["messages.csv"].columns == tables["new_messages.csv"].columns == ["id", "text"]
    assert tables["dev.csv"].columns == ["id", "text", "tag"]
    assert tables["gold.csv"].rows() == [("test-0", "what, a fee?", "fees"), ("test-1", "lost it", "lost?")]
    train = {*tables["messages.csv"]["id"], *tables["dev.csv"]["id"]}
    assert train == {f"train-{i}" for i in range(20)}
    for number, text, tag in tables["dev.csv"].iter_rows():
        row = int(number.removeprefix("train-"))
        assert (text, tag) == ((f"fee number {row // 2}", "fees") if row % 2 == 0 else (f"lost {row // 2}", "lost"))
    truth = pl.read_parquet(made.folder / "truth" / "truth.parquet")
    assert truth.row(20) == ("test-0", "fees", ["fees"])


def test_one_keyword_becomes_one_rule(source: Path, tmp_path: Path) -> None:
    rules = RuleSet.from_yaml(write_banking_data(source, tmp_path / "out", dev_rows=5).folder / "rules.yaml")
    assert rules.tags == ("fees", "lost", "lost?")
    assert [(rule.name, rule.tag, rule.any) for rule in rules.rules] == [
        ("fees.fee", "fees", ("fee",)),
        ("fees.a-charge", "fees", ("a charge",)),
        ("lost.lost", "lost?", ("lost",)),
    ]


def test_the_sources_rules_take_precedence_over_its_keywords(source: Path, tmp_path: Path) -> None:
    (source / "rules.yaml").write_text(
        "tags: [fees, lost, 'lost?']\nrules: [{name: charge, tag: fees, regex: charg}]\n"
    )
    rules = RuleSet.from_yaml(write_banking_data(source, tmp_path / "out", dev_rows=5).folder / "rules.yaml")
    assert [rule.regex for rule in rules.rules] == ["charg"]


def test_categories_json_orders_the_tags(source: Path, tmp_path: Path) -> None:
    (source / "categories.json").write_text('["lost?", "fees"]')
    rules = RuleSet.from_yaml(write_banking_data(source, tmp_path / "out", dev_rows=5).folder / "rules.yaml")
    assert rules.tags == ("lost?", "fees", "lost")


def test_the_seed_picks_the_dev_rows(source: Path, tmp_path: Path) -> None:
    picked = [
        (write_banking_data(source, tmp_path / str(i), dev_rows=5, seed=seed).folder / "dev.csv").read_bytes()
        for i, seed in enumerate((1, 1, 2))
    ]
    assert picked[0] == picked[1] != picked[2]


def test_banking77_itself(shared_data: Path, tmp_path: Path) -> None:
    made = write_banking_data(shared_data / "banking77", tmp_path)
    assert made.rows == {
        "messages.csv": 9_003,
        "dev.csv": 1_000,
        "gold.csv": 3_080,
        "new_messages.csv": 3_080,
        "truth/truth.parquet": 13_083,
    }
    rules = RuleSet.from_yaml(tmp_path / "rules.yaml")
    assert (len(rules.rules), len(rules.tags)) == (335, 77)
    train, gold, dev = (pl.read_csv(tmp_path / name) for name in ("messages.csv", "gold.csv", "dev.csv"))
    seen = {text.strip().lower() for text in (*train["text"], *dev["text"])}
    assert len(seen & {text.strip().lower() for text in gold["text"]}) == 6  # they differ in case and spaces only
    assert set(gold["tag"]) == set(rules.tags)


def without(source: Path, name: str) -> None:
    (source / name).unlink()


@pytest.mark.parametrize(
    ("spoil", "error", "says"),
    [
        (lambda s: without(s, "test.csv"), SpecError, "no file test.csv in "),
        (lambda s: without(s, "gpt4o_keywords.json"), SpecError, "no rules in "),
        (
            lambda s: (s / "train.csv").write_text("text,categry\na,b\n"),
            MissingColumn,
            r"train.csv has no column 'category' \(did you mean 'categry'\?\)",
        ),
        (lambda s: (s / "test.csv").write_text("body,category\na,b\n"), MissingColumn, "test.csv has no column 'text'"),
        (lambda s: (s / "test.csv").write_text(""), SpecError, "test.csv cannot be read as CSV"),
        (lambda s: (s / "test.csv").write_bytes(b"text,category\n\xff\xfe,b\n"), SpecError, "test.csv cannot be read"),
        (lambda s: (s / "test.csv").write_text("text,category\na,fees\nb,\n"), DataError, "row 1 has no category"),
        (lambda s: (s / "gpt4o_keywords.json").write_text("{"), SpecError, "gpt4o_keywords.json is not valid JSON"),
        (
            lambda s: (s / "gpt4o_keywords.json").write_text('{"feees": ["a"]}'),
            RulesError,
            r"unknown category 'feees' \(did you mean 'fees'\?\)",
        ),
        (
            lambda s: (s / "gpt4o_keywords.json").write_text('{"fees": "fee"}'),
            RulesError,
            "keywords of 'fees' are not a list",
        ),
        (lambda s: (s / "gpt4o_keywords.json").write_text("[]"), RulesError, "not a mapping of category to keywords"),
        (
            lambda s: (s / "rules.yaml").write_text("tags: [fees, lost]\nrules: [{name: a, tag: fees, any: [fee]}]\n"),
            RulesError,
            r"the category 'lost\?' is not a tag of rules.yaml",
        ),
        (lambda s: (s / "categories.json").write_text("{}"), SpecError, "categories.json is not a list of names"),
    ],
)
def test_errors_in_the_source_are_reported(source: Path, tmp_path: Path, spoil, error, says: str) -> None:  # type: ignore[no-untyped-def]
    spoil(source)
    with pytest.raises(error, match=says):
        write_banking_data(source, tmp_path / "out", dev_rows=5)
    assert not (tmp_path / "out").exists()


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"no folder .*nowhere"):
        write_banking_data(tmp_path / "nowhere", tmp_path / "out")


@pytest.mark.parametrize("dev_rows", [0, 20])
def test_dev_rows_leave_some_messages(source: Path, tmp_path: Path, dev_rows: int) -> None:
    with pytest.raises(SpecError, match=rf"dev_rows is {dev_rows}, but train.csv has 20 rows"):
        write_banking_data(source, tmp_path / "out", dev_rows=dev_rows)


def test_similar_keywords_get_different_rule_names() -> None:
    rules = keyword_rules({"a?": ["top up", "top-up", "top  up!"], "a": ["top up", "+"]}, ["a?", "a"])
    names = [rule.name for rule in rules.rules]
    assert names == ["a.top-up", "a.top-up-2", "a.top-up-3", "a.top-up-4", "a.keyword"]
