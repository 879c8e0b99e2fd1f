"""The files of `kommuna new` pass `kommuna check`; `kommuna put` fills the inbox."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from kommuna.cli.main import app
from kommuna.errors import DataError, KommunaError, SpecError, TeamMistake
from kommuna.runtime.binding import find_step
from kommuna.spec.installation import find_installation
from kommuna.spec.rules import RuleSet
from kommuna.store import Store

CONFIG = "# ours\nteams:  # who shares\n  support: {bundle: dags/support}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "kommuna.yaml").write_text(CONFIG)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.slow
def test_a_new_team_with_a_dag_and_a_step_passes_the_check(folder: Path) -> None:
    run("new", "team", "cards")
    assert set(find_installation(folder).platform.teams) == {"support", "cards"}
    assert (folder / "kommuna.yaml").read_text().startswith("# ours\nteams:  # who shares\n  cards:\n")
    run("new", "dag", "topics", "--team", "cards")
    said = run("new", "step", "lengths", "--team", "cards")
    assert 'function="lengths:lengths"' in said
    bundle = folder / "dags" / "cards"
    checked = CliRunner().invoke(app, ["check", str(bundle)])
    assert checked.exit_code == 0, checked.output
    assert "1 DAG" in checked.output
    assert RuleSet.from_yaml(bundle / "topics.yaml").otherwise == "other"
    signature = find_step("lengths:lengths", bundle=bundle)
    assert (list(signature.inputs), list(signature.params)) == (["table"], ["text"])


def test_nothing_is_overwritten(folder: Path) -> None:
    run("new", "dag", "topics", "--team", "support")
    path = folder / "dags" / "support" / "topics.py"
    path.write_text("mine")
    with pytest.raises(TeamMistake, match="already exists"):
        run("new", "dag", "topics", "--team", "support")
    assert path.read_text() == "mine"
    with pytest.raises(TeamMistake, match="team 'support' already exists"):
        run("new", "team", "support")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["team", "My team"], "not a valid team name"),
        (["dag", "1", "--team", "support"], "not a valid Python name"),
        (["dag", "../x", "--team", "support"], "not a valid Python name"),
        (["dag", "x", "--team", "suport"], "did you mean 'support'"),
    ],
)
def test_invalid_names_are_refused(folder: Path, arguments: list[str], said: str) -> None:
    with pytest.raises(KommunaError, match=said):
        run("new", *arguments)
    assert (folder / "kommuna.yaml").read_text() == CONFIG


def test_a_description_that_cannot_be_extended_is_unchanged(folder: Path) -> None:
    inline = "teams: {support: {bundle: dags/support}}\n"
    (folder / "kommuna.yaml").write_text(inline)
    with pytest.raises(SpecError, match="not on a line of its own"):
        run("new", "team", "cards")
    assert (folder / "kommuna.yaml").read_text() == inline


def test_put_copies_a_file_to_where_dags_read_it(folder: Path) -> None:
    (folder / "messages.csv").write_text("id,text\n1,hello\n")
    assert "store://inbox/messages.csv: 16 bytes" in run("put", "messages.csv", "--team", "support")
    assert "store://inbox/own/m.csv" in run("put", "messages.csv", "own/m.csv", "--team", "support")
    assert "store://inbox/n.csv: 16" in run("put", "messages.csv", "store://inbox/n.csv", "--team", "support")
    store = Store(find_installation(folder).store(), "support")
    assert store.inbox_file("inbox/own/m.csv", folder).read_text() == "id,text\n1,hello\n"
    with pytest.raises(TeamMistake, match="leaves the team's part"):
        run("put", "messages.csv", "../../fraud/m.csv", "--team", "support")
    with pytest.raises(DataError, match="no such file"):
        run("put", "absent.csv", "--team", "support")
    with pytest.raises(DataError, match="not a file"):
        run("put", ".", "--team", "support")
