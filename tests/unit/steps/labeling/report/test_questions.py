"""The part of the rule report about questions: prompt, agreement and price, the least worth its price first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from tests.rigs.llm_server import LlmServer

from kommuna.spec.llm import LlmEndpoint, Llms
from kommuna.spec.rules import RuleSet
from kommuna.spec.step import StoreAddress
from kommuna.steps.labeling.apply import Applied, apply_rules
from kommuna.steps.labeling.rule_report import rule_report
from kommuna.steps.labeling.rules.ask.prompt import prompt_in
from kommuna.steps.llm.client import Llm

RULES = RuleSet.read(
    {
        "tags": ["card", "loan"],
        "rules": [
            {"name": "ask_card", "tag": "card", "ask": "Does it mention card?"},
            {"name": "ask_please", "tag": "loan", "ask": "Does it mention please?"},
            {"name": "says_loan", "tag": "loan", "any": ["loan"]},
        ],
    },
    where="test",
)
ROWS = 40
DEV = pl.LazyFrame(
    {
        "id": range(ROWS),
        "text": [f"{'my card' if i % 2 else 'a loan'} {'please' if i % 3 else ''} {i}" for i in range(ROWS)],
        "tag": ["card" if i % 2 else "loan" for i in range(ROWS)],
    }
)


@pytest.fixture
def server() -> Iterator[LlmServer]:
    started = LlmServer(logprobs=True, sure=lambda _, text: 0.4 if text.endswith("7") else 0.9).start()
    yield started
    started.stop()


@pytest.fixture
def applied(server: LlmServer) -> Applied:
    llm = Llm(Llms(light=LlmEndpoint(url=server.url, model="tiny", input_price=1000.0, output_price=1000.0)))
    return apply_rules(DEV.select("id", "text"), RULES, llm=llm)


def test_each_question_is_told_with_its_prompt_answers_and_share_of_the_cost(
    server: LlmServer, applied: Applied
) -> None:
    table = applied.questions
    assert table["question"].to_list() == ["Does it mention card?", "Does it mention please?"]
    assert set(table["prompt"]) == {"english"}
    assert set(table["prompt_version"]) == {prompt_in("english").version}
    assert table.select("yes", "no", "unknown", "asked").rows() == [(20, 20, 0, 40), (26, 14, 0, 40)]
    assert table["tokens"].sum() == pytest.approx(sum(map(sum, server.billed)))
    assert table["cost"].sum() == pytest.approx(applied.metrics["llm_cost"])


def test_the_report_shows_what_each_question_is_worth_and_costs(applied: Applied) -> None:
    made = rule_report(applied.votes, RULES, None, applied.votes, DEV, applied.questions.lazy())
    html = made.report.html
    part = html[html.index("Questions to the LLM") :]
    text = re.sub(r"<[^>]+>", " ", part)
    assert "Does it mention card?" in text
    assert prompt_in("english").version in text
    assert "cost per 1,000 messages" in text
    assert "where it is sure" in text
    assert text.index("Does it mention please?") < text.index("Does it mention card?")  # it gains nothing
    assert re.search(r"1 of 2 questions gain nothing on dev: without them 1,000 messages cost [\d.]+ less", text)


def test_a_rule_set_without_questions_has_no_such_part() -> None:
    rules = RULES.model_copy(update={"rules": RULES.rules[2:]})
    made = apply_rules(DEV.select("id", "text"), rules)
    assert made.questions.is_empty()
    report = rule_report(made.votes, rules, None, made.votes, DEV, made.questions.lazy()).report
    assert "Questions to the LLM" not in report.html


def test_cached_answers_have_no_price(server: LlmServer, tmp_path: Path) -> None:
    shared = StoreAddress(url=tmp_path.as_uri())
    llms = Llms(light=LlmEndpoint(url=server.url, model="tiny", input_price=1.0))
    first, second = (apply_rules(DEV.select("id", "text"), RULES, llm=Llm(llms, shared)) for _ in range(2))
    assert first.questions["asked"].to_list() == [40, 40]
    assert second.questions["asked"].to_list() == [0, 0]
    report = rule_report(second.votes, RULES, None, second.votes, DEV, second.questions.lazy()).report.html
    assert "Does it mention card?" in report
    assert "questions gain nothing" not in report
