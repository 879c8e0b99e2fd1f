"""Steps called from a notebook, with the objects that users have there."""

import inspect
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
import yaml

from kommuna.errors import DataError, KommunaError, SpecError
from kommuna.runtime.binding import find_function, read_signature
from kommuna.spec.rules import RuleSet
from kommuna.steps.etl.clean import clean
from kommuna.steps.etl.query import query
from kommuna.steps.etl.read import read_table
from kommuna.steps.labeling.apply import apply_rules
from kommuna.steps.labeling.label import label_messages
from kommuna.steps.labeling.rule_report import rule_report

RULES: dict[str, Any] = {
    "tags": ["card", "loan"],
    "rules": [
        {"name": "plastic", "tag": "card", "any": ["card"]},
        {"name": "borrow", "tag": "loan", "any": ["loan"]},
    ],
}
MESSAGES = pl.DataFrame({"id": [1, 2, 3], "text": ["my card", "a loan", None]})
VOTES = [(1, "card", None), (2, None, "loan"), (3, None, None)]


def forms(folder: Path) -> list[Any]:
    """The messages in each supported form."""
    MESSAGES.write_csv(folder / "messages.csv")
    MESSAGES.write_parquet(folder / "messages.parquet")
    MESSAGES.write_ndjson(folder / "messages.ndjson")
    table = MESSAGES.to_pandas()
    files = [folder / f"messages.{ending}" for ending in ("csv", "parquet", "ndjson")]
    return [MESSAGES, MESSAGES.lazy(), table, table.set_index("id"), *files, str(files[0])]


def test_messages_may_be_any_table_and_rules_a_dict_or_a_path(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(RULES))
    for messages in forms(tmp_path):
        for rules in (RULES, RuleSet.read(RULES), path, str(path)):
            assert apply_rules(messages, rules).votes.collect().rows() == VOTES


def test_the_whole_pipeline_by_hand(tmp_path: Path) -> None:
    applied = apply_rules(MESSAGES.to_pandas(), RULES)
    dev = pd.DataFrame({"id": [1, 2], "tag": ["card", "loan"]})
    labeled = label_messages(applied, RULES, applied, dev, model="majority")
    assert labeled.labels.collect()["tag"].to_list() == ["card", "loan", None]
    report = rule_report(votes=applied, rules=RULES, labels=labeled, dev_votes=applied.votes.collect(), dev=dev)
    assert report.table["dev_right"].to_list() == [1, 1]
    cleaned = clean(MESSAGES.to_pandas())
    assert (
        query({"t": cleaned.table, "d": dev}, sql="select t.id from t join d on t.id = d.id").table.collect().height
        == 2
    )
    MESSAGES.write_csv(tmp_path / "m.csv")
    read = read_table(str(tmp_path / "m.csv"), table_schema={"columns": {"id": "Int64", "text": "String"}})
    assert read.table.collect().height == 3


REFUSED: dict[str, tuple[Any, Any]] = {
    "messages is not a table but a list": ([1], RULES),
    "messages is not a table but an int": (1, RULES),
    "messages is not a table but an Applied of votes, questions, metrics": ("applied", RULES),
    "no file there.csv": ("there.csv", RULES),
    r"messages\.txt has an unknown format": ("messages.txt", RULES),
    "the pandas table cannot be read": (pd.DataFrame({"id": [1, "x"], "text": [None, {1}]}), RULES),
    "rules is not a RuleSet but a list": (MESSAGES, [RULES]),
    "no file there.yaml": (MESSAGES, "there.yaml"),
    "RuleSet: unknown key 'tag' at": (MESSAGES, {"tag": ["card"]}),
}


@pytest.mark.parametrize("words", REFUSED)
def test_other_values_are_refused_with_an_explanation(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages, rules = REFUSED[words]
    monkeypatch.chdir(tmp_path)
    Path("messages.txt").write_text("id,text\n")
    if isinstance(messages, str) and messages == "applied":
        messages = apply_rules(MESSAGES, RULES)
    with pytest.raises(KommunaError, match=words) as refused:
        apply_rules(messages, rules)
    assert isinstance(refused.value, DataError | SpecError)


def test_a_rule_set_is_read_from_a_dict_or_a_path(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(yaml.safe_dump(RULES))
    assert RuleSet.read(RULES) == RuleSet.read(str(path)) == RuleSet.read(path) == RuleSet.from_yaml(str(path))


def test_every_step_with_tables_converts_them_and_keeps_its_signature() -> None:
    steps = [
        "etl.asof:asof_join", "etl.clean:clean", "etl.mask:mask_pii", "etl.prepare:prepare_messages",
        "etl.query:query", "etl.read:read_table", "labeling.apply:apply_rules", "labeling.label:label_messages",
        "labeling.refine.step:refine_rules", "labeling.rule_report:rule_report", "training.evaluate:evaluate",
        "training.predict:predict", "training.train:train_classifier",
    ]  # fmt: skip
    for name in steps:
        step = find_function(f"kommuna.steps.{name}")
        plain = inspect.unwrap(step)
        assert plain is not step, name
        assert read_signature(name, step).inputs == read_signature(name, plain).inputs
        assert repr(read_signature(name, step).params) == repr(read_signature(name, plain).params)


@pytest.mark.slow
def test_importing_kommuna_is_cheap_and_all_public_names_exist() -> None:
    import subprocess
    import sys

    light = "import kommuna, sys; print(any(m in sys.modules for m in ('polars', 'numpy', 'sklearn', 'yaml')))"
    assert subprocess.run([sys.executable, "-c", light], capture_output=True, text=True, check=True).stdout == "False\n"
    whole = (
        "import sys; from kommuna import *; print(callable(LabelModel) and callable(apply_rules), "
        "any(m in sys.modules for m in ('torch', 'mlflow', 'airflow', 'openai')))"
    )
    done = subprocess.run([sys.executable, "-c", whole], capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"


@pytest.mark.parametrize(
    ("content", "words", "fix"),
    [
        (b"", "messages.csv is empty", "export the file again"),
        ("id,text\n1,карта\n".encode("cp1251"), "messages.csv is not UTF-8: line 2", "WINDOWS-1251"),
    ],
)
def test_an_unreadable_file_is_refused_with_an_explanation(
    tmp_path: Path, content: bytes, words: str, fix: str
) -> None:
    file = tmp_path / "messages.csv"
    file.write_bytes(content)
    with pytest.raises(DataError, match=words) as caught:
        apply_rules(file, {"tags": ["a"], "rules": [{"name": "r", "tag": "a", "any": ["x"]}]})  # type: ignore[arg-type]
    assert fix in caught.value.fix
