"""Tables are complete at 80 columns, in a pipe and as JSON, without logs and messages."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.main import get_command

import kommuna
from kommuna.cli.main import app
from kommuna.cli.tables import print_dearest, print_table

COLUMNS = ("rule", "tag", "coverage", "overlap", "conflict", "accuracy", "worth", "errors")
LONG = "mortgage_with_early_repayment_and_a_very_long_name_that_nobody_would_type_by_hand_twice_over"
ROWS = [
    (LONG, "mortgage", 0.12345, 0.5, 0.25, None, -0.0031, 12345),
    ("[a-z]{2,}$", "карта [/red]", 1.0, 0.0, 0.0, 0.75, 0.1, 0),
]
KOMMUNA = str(Path(sys.executable).with_name("kommuna"))


def printed(*, terminal: bool, width: int = 80, rows: list[tuple[object, ...]] = ROWS) -> str:
    console = Console(file=io.StringIO(), force_terminal=terminal, width=width, color_system=None)
    print_table(console, COLUMNS, rows)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_the_three_dearest_steps_are_those_with_the_most_processor_time() -> None:
    console = Console(file=io.StringIO(), force_terminal=False, width=80, color_system=None)
    steps = [
        ("read", 90.0, 1.25, 5 << 20),
        ("train", 20.0, 33.0, 900 << 20),
        ("mask", 4.0, 4.0, 0),
        ("vote", 2.0, 1.5, 0),
    ]
    print_dearest(console, steps)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split()[0] for line in lines[-3:]] == ["train", "mask", "vote"]
    assert lines[-3].split() == ["train", "20.0", "33.0", "900"]


def test_a_table_that_is_too_wide_for_a_terminal_is_printed_as_one_block_per_row() -> None:
    lines = printed(terminal=True).splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert "…" not in "".join(lines)
    assert LONG in "".join(line.strip() for line in lines[:2])  # folded, and whole
    assert lines[2].startswith("  tag mortgage   coverage 0.123   overlap 0.500   conflict 0.250   worth -0.003")
    assert lines[3] == "  errors 12,345"
    assert lines[4] == "[a-z]{2,}$"


def test_a_table_that_fits_a_terminal_is_a_table() -> None:
    lines = printed(terminal=True, width=100, rows=ROWS[1:]).splitlines()
    assert lines[1].split()[1::2] == list(COLUMNS)
    assert "│ [a-z]{2,}$ │ карта [/red] │ 1.000" in lines[3]


def test_in_a_pipe_each_row_is_one_line_that_grep_finds() -> None:
    header, first, second = printed(terminal=False).splitlines()
    assert header.split() == list(COLUMNS)
    assert first.split() == [LONG, "mortgage", "0.123", "0.500", "0.250", "–", "-0.003", "12,345"]
    assert second.startswith("[a-z]{2,}$ ")
    assert second.index("карта [/red]") == header.index("tag")


@pytest.mark.parametrize(
    "name", ["up", "status", "demo", "check", "show", "gc", "explain", "rules test", "rules refine"]
)
def test_every_command_that_prints_a_table_has_json(name: str) -> None:
    command = get_command(app)
    for part in name.split():
        command = command.commands[part]  # type: ignore[attr-defined]
    assert "--json" in [option for parameter in command.params for option in parameter.opts]


def run(*arguments: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [KOMMUNA, *arguments], cwd=folder, env={**os.environ, **environment},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "rules.yaml").write_text(
        f"tags: [a, b]\notherwise: a\nrules:\n- {{name: {LONG}, tag: a, any: [card]}}\n"
        "- {name: slow, tag: b, regex: '(cash|card).*(money|cash).*x'}\n"
    )
    (tmp_path / "m.csv").write_text("id,text\n1,my card\n2,cash please\n3,hello\n4,card and money\n")
    return tmp_path


@pytest.mark.slow
def test_rules_test_is_complete_in_a_pipe_and_json_has_its_values(files: Path) -> None:
    piped = run("rules", "test", "rules.yaml", "m.csv", folder=files, COLUMNS="80")
    assert piped.returncode == 0, piped.stderr
    (line,) = [line for line in piped.stdout.splitlines() if LONG in line]
    assert "0.500" in line
    found = run("rules", "test", "rules.yaml", "m.csv", "--json", "--report", "r.html", folder=files)
    document = json.loads(found.stdout)
    by_name = {rule["rule"]: rule for rule in document["rules"]}
    assert by_name[LONG]["coverage"] == 0.5
    assert "Written: r.html" in found.stderr


@pytest.mark.slow
def test_logs_are_not_in_the_output(files: Path) -> None:
    (files / "dags").mkdir()
    (files / "kommuna.yaml").write_text("teams:\n  support: {bundle: dags}\n")
    checked = run("check", "dags", "--json", folder=files)
    assert json.loads(checked.stdout) == {"findings": [], "files": 0, "dags": 0, "steps": 0}
    logged = subprocess.run(
        [sys.executable, "-c", "import structlog; from kommuna.cli.main import _every_command; _every_command();"
         " structlog.get_logger().warning('rules.slow')"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert logged.stdout == ""
    assert "rules.slow" in logged.stderr


def test_the_version_is_printed(tmp_path: Path) -> None:
    assert run("--version", folder=tmp_path).stdout == f"kommuna {kommuna.__version__}\n"


def test_a_shell_can_complete_the_commands(tmp_path: Path) -> None:
    told = run(folder=tmp_path, _KOMMUNA_COMPLETE="complete_bash", COMP_WORDS="kommuna rul", COMP_CWORD="1")
    assert told.stdout.split() == ["rules"]


def test_user_text_in_an_error_is_not_markup(tmp_path: Path) -> None:
    done = run("check", "dags/[/red]", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: no folder dags/[/red]")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["steps", f"--{LONG}"], f"error: No such option: --{LONG}"),
        (["rules", "tost"], "error: No such command 'tost'. Did you mean 'test'?"),
        (["demo", "--messages", "x"], "error: Invalid value for '--messages': expected a whole number, found 'x'"),
        (["rules", "test", LONG * 2, "m.csv"], f"error: no file {LONG * 2}"),
    ],
)  # fmt: skip
def test_an_argument_error_is_one_line(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = run(*arguments, folder=tmp_path, COLUMNS="80")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == said
    assert not done.stdout


def test_a_group_without_a_command_prints_its_help(tmp_path: Path) -> None:
    done = run("rules", folder=tmp_path)
    assert (done.returncode, done.stderr) == (2, "")
    assert "refine" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("report", "said"),
    [(".", "error: .: Is a directory"), ("rules.yaml/x.html", "error: rules.yaml: File exists"),
     ("/proc/x.html", "error: /proc/x.html: No such file or directory")],
)  # fmt: skip
def test_an_unwritable_path_is_the_callers_mistake(files: Path, report: str, said: str) -> None:
    done = run("rules", "test", "rules.yaml", "m.csv", "--report", report, folder=files)
    assert done.returncode == 2
    assert said in done.stderr.splitlines()
