"""The commands and code of the README run. Its two main commands are run by CI and the integration tests."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.rigs.notebook import run_cells

from kommuna.runtime.binding import read_signature
from kommuna.spec.team import Platform

ROOT = Path(__file__).resolve().parent.parent.parent


def blocks(language: str) -> list[str]:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


COMMANDS = [line for block in blocks("sh") for line in block.strip().splitlines()]


def test_the_two_commands_come_first() -> None:
    assert COMMANDS[:2] == ["make demo", "make test"]


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make ")])
def test_each_make_target_exists_and_runs_the_documented_command(command: str) -> None:
    done = subprocess.run([*shlex.split(command), "-n"], cwd=ROOT, capture_output=True, text=True, check=True)
    wanted = {"make demo": ".venv/bin/kommuna demo", "make test": "-m pytest tests/integration"}[command]
    assert wanted in done.stdout


@pytest.mark.slow
def test_the_kommuna_commands_run_one_after_the_other(tmp_path: Path) -> None:
    for name in ("dags", "kommuna.yaml"):
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    ran = 0
    for command in COMMANDS:
        if not command.startswith(".venv/bin/"):
            continue
        program, *arguments = shlex.split(command)
        done = subprocess.run(
            [str(Path(sys.executable).with_name(Path(program).name)), *arguments],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        ran += 1
    assert ran == 3


def test_the_shortest_dag_is_the_shipped_one_and_has_at_most_fifteen_lines() -> None:
    (dag, step) = blocks("python")
    ships = (ROOT / "dags/support/own_messages.py").read_text()
    for line in dag.strip().splitlines():
        assert line in ships
    for path in ("own_messages.py", "topics.py"):
        code = [line for line in (ROOT / "dags/support" / path).read_text().splitlines() if line and '"""' not in line]
        assert len(code) <= 15
    assert "long_messages" in step


def test_the_readmes_step_is_a_step() -> None:
    module = type(sys)("readme_step")
    sys.modules["readme_step"] = module
    exec(blocks("python")[1], vars(module))
    import polars as pl

    signature = read_signature("readme_step:long_messages", module.long_messages)
    assert (list(signature.inputs), list(signature.params)) == (["messages"], ["least"])
    made = module.long_messages(pl.LazyFrame({"text": ["a", "b" * 200]}), least=100)
    assert made.metrics == {"rows": 1.0}


def test_the_readmes_team_fits_the_schema() -> None:
    (block,) = blocks("yaml")
    assert Platform.model_validate(yaml.safe_load(block)).teams["cards"].people == {"kim": "op"}


@pytest.mark.parametrize("page", ["docs/tutorial.md", "docs/from-snorkel.md"])
def test_a_page_about_the_library_runs_block_after_block(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    assert {language for language, _ in found} == {"python"}
    assert len(found) >= 6
    names: dict[str, object] = {}
    for _, block in found:
        exec(compile(block, page, "exec"), names)


def test_everything_that_the_page_for_snorkels_users_names_exists() -> None:
    """Our side of its table; the blocks above run the rest."""
    text = (ROOT / "docs/from-snorkel.md").read_text(encoding="utf-8")
    import kommuna
    from kommuna import LabelModel

    ours = set(re.findall(r"`(LabelModel|votes_of|apply_rules|to_matrix|from_matrix|rule_summary|rule_report)\b", text))
    assert len(ours) == 7
    assert ours <= set(kommuna.__all__)
    for name in ("fit", "predict", "predict_proba", "score", "save", "load", "conditional_probabilities_",
                 "rule_weights_"):  # fmt: skip
        assert hasattr(LabelModel, name)
        assert name in text


@pytest.mark.torch
def test_the_notebook_for_snorkels_users_runs() -> None:
    pytest.importorskip("torch")
    names = run_cells(ROOT / "examples/from_snorkel.ipynb")
    assert names["theirs"].shape == names["ours"].shape == (8, 3)  # type: ignore[attr-defined]


def test_the_reference_describes_every_argument_of_every_operator() -> None:
    import kommuna.airflow

    spec = importlib.util.spec_from_file_location("pages", ROOT / "docs" / "pages.py")
    assert spec is not None
    assert spec.loader is not None
    pages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pages)
    operators = [each for name in kommuna.airflow.__all__ if hasattr(each := getattr(kommuna.airflow, name), "step")]
    assert len(operators) > 12
    missing = [
        f"{operator.__name__}: {name}"
        for operator in operators
        for name, _, what in pages.arguments(operator)
        if not what
    ]
    assert missing == []
