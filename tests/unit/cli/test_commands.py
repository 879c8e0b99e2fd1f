"""Commands that need no running platform."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from kommuna.cli.data import SCHEMAS
from kommuna.cli.main import app
from kommuna.errors import KommunaError, SpecError

RULES = "tags: [a, b]\nrules:\n  - {name: cards, tag: a, any: [card]}\n  - {name: cash, tag: b, any: [cash, money]}\n"


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_schema_is_a_json_schema_that_closes_its_objects(name: str) -> None:
    document = json.loads(CliRunner().invoke(app, ["schema", name]).stdout)
    assert document["$schema"].startswith("https://json-schema.org/")
    assert document["additionalProperties"] is False
    assert issubclass(SCHEMAS[name], BaseModel)


def test_an_unknown_schema_suggests_the_nearest() -> None:
    result = CliRunner().invoke(app, ["schema", "rule"])
    assert isinstance(result.exception, SpecError)
    assert "did you mean 'rules'" in str(result.exception)


def test_rules_test_shows_figures_and_writes_the_report(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(RULES)
    (tmp_path / "m.csv").write_text("id,text\n1,my card\n2,cash please\n3,hello\n4,card and money\n")
    (tmp_path / "l.csv").write_text("id,tag\n1,a\n2,b\n4,b\n")
    arguments = [
        "rules",
        "test",
        str(tmp_path / "rules.yaml"),
        str(tmp_path / "m.csv"),
        "--labels",
        str(tmp_path / "l.csv"),
    ]
    result = CliRunner().invoke(app, [*arguments, "--report", str(tmp_path / "r.html")])
    assert result.exit_code == 0, result.output
    assert "cards" in result.stdout
    assert "0.500" in result.stdout  # the coverage of both rules, and the accuracy of `cards`
    page = (tmp_path / "r.html").read_text()
    assert "<svg" in page
    assert "<mark>card</mark> and money" in page  # the text of an error, though the labels have none


def test_rules_test_reports_the_share_of_the_default_tag(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text("otherwise: b\n" + RULES.replace("cards, ", "cards, group: plastic, "))
    (tmp_path / "m.csv").write_text("id,text\n1,my card\n2,cash please\n3,hello\n4,card and money\n")
    arguments = ["rules", "test", str(tmp_path / "rules.yaml"), str(tmp_path / "m.csv")]
    line = "No rule votes on 25.0% of rows; they get the default tag b"
    assert line in CliRunner().invoke(app, arguments).stdout
    assert "default tag" not in CliRunner().invoke(app, [*arguments, "--group", "plastic"]).stdout


def test_rules_test_shows_only_one_group(tmp_path: Path) -> None:
    grouped = RULES.replace("name: cash", "name: cash, group: money").replace(
        "name: cards", "name: cards, group: plastic"
    )
    (tmp_path / "rules.yaml").write_text(grouped)
    (tmp_path / "m.csv").write_text("id,text\n1,my card\n2,cash please\n")
    arguments = ["rules", "test", str(tmp_path / "rules.yaml"), str(tmp_path / "m.csv"), "--group"]
    shown = CliRunner().invoke(app, [*arguments, "money"]).stdout
    assert "cash" in shown
    assert "cards" not in shown
    failed = CliRunner().invoke(app, [*arguments, "mony"])
    assert "no rule belongs to the group 'mony' (did you mean 'money'?)" in str(failed.exception)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"rules.yaml": RULES}, "no file"),
        ({"rules.yaml": RULES, "m.csv": "id,txt\n1,x\n"}, "m.csv has no column 'text' (did you mean 'txt'?)"),
        (
            {"rules.yaml": RULES.replace("tag: b", "tag: c"), "m.csv": "id,text\n1,x\n"},
            "rule 'cash' has the unknown tag 'c'",
        ),
    ],
)
def test_rules_test_reports_errors(tmp_path: Path, files: dict[str, str], message: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    result = CliRunner().invoke(app, ["rules", "test", str(tmp_path / "rules.yaml"), str(tmp_path / "m.csv")])
    assert isinstance(result.exception, KommunaError)
    assert message in result.exception.what


@pytest.mark.parametrize("command", ["test", "refine"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,text\n1,карта\n".encode("cp1251"), "m.csv is not UTF-8: line 2, byte 10"),
        (b"", "m.csv is empty"),
        (b"id,text\n1,x\n2\n", "m.csv: row 2 has 1 fields, the header has 2"),
        (b'id,text\n1,x\n2,15"\n3,"y"\n', "m.csv: row 2 has a misplaced quote"),
        (b"id;text\n1;x\n", "m.csv seems to be separated by ';'"),
        (b"PK\x03\x04" + bytes(60), "m.csv is a ZIP archive"),
        (None, "m.csv is a folder, not a file"),
    ],
)
def test_files_of_the_rules_commands_are_validated(
    tmp_path: Path, command: str, content: bytes | None, message: str
) -> None:
    (tmp_path / "rules.yaml").write_text(RULES)
    (tmp_path / "dev.csv").write_text("id,text,tag\n1,card,a\n")
    if content is None:
        (tmp_path / "m.csv").mkdir()
    else:
        (tmp_path / "m.csv").write_bytes(content)
    given = {"test": ["rules.yaml", "m.csv"], "refine": ["m.csv", "dev.csv"]}[command]
    result = CliRunner().invoke(app, ["rules", command, *(str(tmp_path / name) for name in given)])
    assert isinstance(result.exception, KommunaError), result.exception
    assert message in result.exception.what
    assert result.exception.exit_code == 2


def test_keys_are_texts_in_all_files_of_the_rules_commands(tmp_path: Path) -> None:
    (tmp_path / "rules.yaml").write_text(RULES)
    (tmp_path / "m.csv").write_text("id,text\n007,my card\n7,cash please\nx9,hello\n")
    (tmp_path / "l.csv").write_text("id,tag\n7,b\n")  # numbers all, and the row of `cash please`
    arguments = ["rules", "test", str(tmp_path / "rules.yaml"), str(tmp_path / "m.csv")]
    result = CliRunner().invoke(app, [*arguments, "--labels", str(tmp_path / "l.csv")])
    assert result.exit_code == 0, result.output
    assert "1.000" in next(line for line in result.stdout.splitlines() if "cash" in line)


def test_demo_data_is_written(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["demo-data", str(tmp_path / "demo"), "--messages", "500"])
    assert result.exit_code == 0, result.output
    assert "messages.csv: 500 rows" in result.stdout.replace("\n", "")
    assert (tmp_path / "demo/transactions.csv").exists()
