"""`kommuna llm`: each team's bill of a month, and what its budget leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kommuna.cli.main import app
from kommuna.errors import SpecError
from kommuna.spec.step import StoreAddress
from kommuna.steps.llm.ledger import Billed, Ledger

PLATFORM = """
teams:
  support: {bundle: dags/support, llm: {month: {money: 1.0, tokens: 1000}}}
  fraud: {bundle: dags/fraud}
llm:
  light: {url: "http://127.0.0.1:9/v1", model: small, teams: [support]}
"""


@pytest.fixture
def shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "kommuna.yaml").write_text(PLATFORM)
    monkeypatch.chdir(tmp_path)
    shared = StoreAddress(url=(tmp_path / ".kommuna" / "store").as_uri()).shared("support")
    for _ in range(2):  # two steps
        bill = Billed(requests=2, prompt_tokens=290, completion_tokens=10, money=0.2)
        Ledger(shared, "w" * 64, model="small", url="http://127.0.0.1:9/v1").write(bill, Billed(requests=1, lost=1))

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["llm", *arguments], catch_exceptions=False, standalone_mode=False)
        return done.output

    return run


def test_each_teams_bill_and_what_is_left(shown) -> None:
    document = json.loads(shown("--json"))
    fraud, support = document["teams"]
    assert support == {
        "team": "support", "endpoints": "light", "requests": 6, "tokens": 600, "tokens_left": 400, "money": 0.4,
        "money_left": 0.6,
    }  # fmt: skip
    assert (fraud["tokens"], fraud["tokens_left"], fraud["endpoints"]) == (0, None, "")


def test_another_month_is_another_bill(shown) -> None:
    (support,) = json.loads(shown("--json", "--team", "support", "--month", "2020-01"))["teams"]
    assert (support["tokens"], support["tokens_left"]) == (0, 1000)
    assert "2020-01" in shown("--month", "2020-01")


def test_what_is_not_a_month_is_refused(shown) -> None:
    with pytest.raises(SpecError, match="'2026-13' is not a month"):
        shown("--month", "2026-13")
