"""`pip install kommuna` without extras: the steps and `kommuna rules` run, and missing extras are named."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "dags/support"


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a new virtual environment with only the core."""
    uv = ROOT / ".uv/bin/uv"
    assert uv.exists(), "no uv: `make setup-dev` brings it"
    folder = tmp_path_factory.mktemp("core") / "venv"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, folder], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", folder / "bin/python", ROOT], check=True)
    return folder / "bin"


def ran(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)


def test_the_notebook_runs_without_airflow_and_mlflow(core: Path) -> None:
    done = ran(core / "python", ROOT / "tests/rigs/notebook.py", ROOT / "examples/rules.ipynb")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "optional libraries: []"
    assert not list(core.parent.glob("lib/python*/site-packages/apache_airflow*"))


def test_rules_are_tested_on_a_file(core: Path, tmp_path: Path) -> None:
    (tmp_path / "messages.csv").write_text("id,text\n1,my card is lost\n2,hello\n")
    (tmp_path / "rules.yaml").write_text("tags: [card]\nrules: [{name: lost, tag: card, any: [lost]}]\n")
    done = ran(core / "kommuna", "rules", "test", tmp_path / "rules.yaml", tmp_path / "messages.csv", "--json")
    assert done.returncode == 0, done.stderr
    assert '"lost"' in done.stdout


@pytest.mark.parametrize("command", [("check", BUNDLE), ("steps",), ("run-dag", BUNDLE / "topics.py")])
def test_a_command_that_needs_an_extra_names_it(core: Path, command: tuple[object, ...]) -> None:
    done = ran(core / "kommuna", *command)
    assert done.returncode == 2
    assert "needs airflow, which is not installed" in done.stderr
    assert "pip install 'kommuna[airflow]'" in done.stderr


def test_the_demos_data_is_only_in_the_repository(core: Path, tmp_path: Path) -> None:
    done = ran(core / "kommuna", "demo-data", tmp_path)
    assert done.returncode == 2
    assert "`kommuna demo-data` needs its data, which is not installed" in done.stderr
    assert not list(core.parent.glob("lib/python*/site-packages/kommuna/demo/*"))
