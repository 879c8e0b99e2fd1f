"""docs/ask.md: its settings are valid, its metrics exist, its example runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import yaml
from tests.rigs.llm_server import LlmServer

from kommuna.spec.llm import Asking, Budget, LlmBudgets, Llms
from kommuna.spec.rules import RuleSet
from kommuna.steps.labeling.rules.ask.votes import AskVotes


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_the_settings_are_valid(root: Path) -> None:
    (settings,) = blocks(root / "docs/ask.md", "yaml")
    llms = Llms.read(yaml.safe_load(settings)["llm"], where="docs/ask.md")
    assert llms.light is not None
    assert (llms.light.key_variable, llms.light.output_price) == ("BANK_LLM_KEY", 0.6)


def test_the_table_names_every_setting_of_asking_and_its_default(root: Path) -> None:
    text = (root / "docs/ask.md").read_text()
    for name in Asking.model_fields:
        assert f"`{name}" in text
    rows = dict(re.findall(r"^\| `(max_failed|messages_per_request)` \|.*\| ([\d.]+) \|$", text, re.MULTILINE))
    assert rows == {"max_failed": str(Asking().max_failed), "messages_per_request": str(Asking().messages_per_request)}


def test_the_documented_metrics_are_those_of_a_run(root: Path, ask: Callable[..., AskVotes]) -> None:
    documented = set(re.findall(r"`((?:ask|llm)_\w+)`", (root / "docs/ask.md").read_text()))
    left = {f"llm_{kind}_{unit}_left" for kind in LlmBudgets.model_fields for unit in Budget.model_fields}
    assert documented == set(ask(["my card"]).metrics) | left


def test_the_example_for_notebooks_runs(root: Path, server: LlmServer) -> None:
    code = blocks(root / "docs/ask.md", "python")[-1].replace("http://127.0.0.1:8000/v1", server.url)
    rules = RuleSet.read(
        {"tags": ["card"], "rules": [{"name": "a", "tag": "card", "ask": "Does it mention card?"}]}, where="test"
    )
    scope = {"messages": pl.LazyFrame({"id": [1], "text": ["card"]}), "rules": rules}
    exec(code, scope)
    assert scope["applied"].votes.collect()["a"].to_list() == ["card"]  # type: ignore[attr-defined]


def test_the_ask_rules_of_the_page_on_rules_are_valid(root: Path) -> None:
    (block,) = [block for block in blocks(root / "docs/rules.md", "yaml") if "no_is_against" in block]
    rules = RuleSet.read({"tags": ["card_lost", "loan"], **yaml.safe_load(block)}, where="docs/rules.md")
    assert rules.categories == ("card_lost", "loan", "!loan")
