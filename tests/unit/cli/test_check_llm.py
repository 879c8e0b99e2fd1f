"""`kommuna check-llm`: whether the platform's LLMs answer, and what they support."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.rigs.llm_server import LlmServer
from typer.testing import CliRunner

from kommuna.cli.main import app
from kommuna.errors import EXIT_MISTAKE, LlmSettings


@pytest.fixture
def server() -> Iterator[LlmServer]:
    started = LlmServer(lists={"models": ["tiny"]}).start()
    yield started
    started.stop()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: LlmServer) -> Path:
    monkeypatch.chdir(tmp_path)
    lines = [f"  {role}: {{url: {server.url}, model: {name}}}" for role, name in (("light", "tiny"), ("heavy", "big"))]
    (tmp_path / "kommuna.yaml").write_text("\n".join(["teams: {support: {bundle: dags}}", "llm:", *lines]) + "\n")
    return tmp_path


def test_each_model_is_shown_and_one_that_is_not_listed_is_a_mistake() -> None:
    made = CliRunner().invoke(app, ["check-llm", "--json"])
    assert made.exit_code == EXIT_MISTAKE
    shown = json.loads(made.stdout)
    assert (shown["light"]["model"], shown["light"]["listed"], shown["light"]["form"]) == ("tiny", True, "json_schema")
    assert (shown["heavy"]["model"], shown["heavy"]["listed"]) == ("big", False)


def test_models_that_can_be_used_are_a_table(server: LlmServer) -> None:
    server.lists["models"].append("big")
    made = CliRunner().invoke(app, ["check-llm"])
    assert made.exit_code == 0, made.output
    assert "structured" in made.stdout
    assert "json_schema" in made.stdout


def test_an_error_of_an_endpoint_is_shown(server: LlmServer) -> None:
    server.key = "sk-right"
    made = CliRunner().invoke(app, ["check-llm"])
    assert made.exit_code == EXIT_MISTAKE
    assert "rejects a request without a key" in made.stdout


def test_without_an_llm_it_is_a_mistake(folder: Path) -> None:
    (folder / "kommuna.yaml").write_text("teams: {support: {bundle: dags}}\n")
    made = CliRunner().invoke(app, ["check-llm"])
    assert isinstance(made.exception, LlmSettings)
