"""Cases of the steps that make labels from rules."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import polars as pl
from tests.recorded.tables import RULES, TAGS, labels, messages, respelled, rule_set, several, votes
from tests.rigs.llm_server import Handler, LlmServer, refuses_where

from kommuna.spec.artifacts import Report
from kommuna.spec.llm import Asking, LlmEndpoint, Llms
from kommuna.spec.rules import RuleSet
from kommuna.steps.labeling.apply import apply_rules
from kommuna.steps.labeling.label import label_messages
from kommuna.steps.labeling.refine.step import refine_rules
from kommuna.steps.labeling.rule_report import rule_report
from kommuna.steps.labeling.rules.ask.votes import ask_votes
from kommuna.steps.llm.client import Llm
from kommuna.steps.llm.session import LlmRetryPolicy


def names_tags() -> pl.Expr:
    """A Python rule that returns tags, one of them unknown."""
    amount = pl.col("amount")
    return pl.when(amount > 480).then(pl.lit("card")).when(amount > 460).then(pl.lit("no such tag"))


def is_small() -> pl.Expr:
    """A Python rule of one tag."""
    return pl.col("amount") < 50


ODD = pl.DataFrame(
    {
        "id": [3, 1, 2, 5, 4, 6],
        "text": ["Моя КАРТА, ﬁrst cаrd", None, "", "кредитами и ещё вкладу", "hello: LOAN-loan.", "card\nloan Й й"],
        "amount": [500.0, float("nan"), None, 400.0, float("inf"), 1e-300],
    }
)


def apply_odd_texts(_: Path) -> Any:
    regex = {"name": "backwards", "tag": "card", "regex": r"(\w)\1|(?<=ﬁ)rst"}
    return apply_rules(ODD.lazy(), rule_set(regex, most=10))


def apply_to_respelled_texts(_: Path) -> Any:
    return apply_rules(respelled(messages(30)).lazy(), rule_set())


def apply_multi_label(_: Path) -> Any:
    python = {"name": "small", "tag": "вклад", "python": f"{__name__}:is_small"}
    return apply_rules(messages(30).lazy(), rule_set(python, multi_label=True))


def apply_with_default_tag(_: Path) -> Any:
    python = {"name": "names_tags", "python": f"{__name__}:names_tags"}
    return apply_rules(messages(30).lazy(), rule_set(python, otherwise="вклад"))


ASK = [
    {"name": "ask_card", "tag": "card", "ask": "Does it mention card?", "no_is_against": True},
    {"name": "ask_loan", "tag": "loan", "ask": "Does it  mention\nloan?"},
]
ASKED = pl.DataFrame(
    {
        "id": range(7),
        "text": ["my card", "a loan", "card and loan???", None, " ", "my card", "4111 1111 1111 1111 loan"],
    }
)


def _with_llm(call: Any, *, always: Any = None) -> Any:
    server = LlmServer(always=always).start()
    try:
        endpoint = LlmEndpoint(url=server.url, model="tiny", input_price=1.0, output_price=2.0, concurrency=1)
        return call(Llm(Llms(light=endpoint, heavy=endpoint), retry_policy=LlmRetryPolicy(tries=2, pause=0.01)))
    finally:
        server.stop()


def apply_questions(_: Path) -> Any:
    asking = Asking(messages_per_request=2)
    rules = RuleSet.read({"tags": TAGS, "rules": [RULES[0], *ASK]}, where="recorded")
    return _with_llm(lambda llm: apply_rules(ASKED.lazy(), rules, llm=llm, asking=asking))


def ask_questions(_: Path) -> Any:
    rules = RuleSet.read({"tags": TAGS, "rules": ASK}, where="recorded")
    return _with_llm(lambda llm: ask_votes(ASKED.lazy(), rules, llm))


def ask_about_multi_label(_: Path) -> Any:
    rules = RuleSet.read({"tags": TAGS, "rules": ASK, "multi_label": True}, where="recorded")
    return _with_llm(lambda llm: ask_votes(ASKED.lazy(), rules, llm, asking=Asking(messages_per_request=3)))


def ask_of_a_model_that_refuses(_: Path) -> Any:
    rules = RuleSet.read({"tags": TAGS, "rules": ASK}, where="recorded")
    asking = Asking(messages_per_request=4, max_failed=1.0)
    return _with_llm(lambda llm: ask_votes(ASKED.lazy(), rules, llm, asking=asking), always=refuses_where("a loan"))


UNLABELED, DEV, GOLD = messages(24), messages(45, first=500), messages(8, first=900)


def _labeled(rules: RuleSet, *, dev: pl.DataFrame | None = DEV, **parameters: Any) -> Any:
    gold_votes = votes(GOLD, rules)
    if dev is None:
        return label_messages(votes(UNLABELED, rules), rules, gold_votes=gold_votes, **parameters)
    return label_messages(votes(UNLABELED, rules), rules, votes(dev, rules), dev.lazy(), gold_votes, **parameters)


def label_by_kommuna(_: Path) -> Any:
    return _labeled(rule_set())


def label_by_kommuna_without_dev(_: Path) -> Any:
    return _labeled(rule_set(), dev=None)


def label_by_majority(_: Path) -> Any:
    return _labeled(rule_set(otherwise="card"), model="majority")


def label_by_weights(_: Path) -> Any:
    return _labeled(rule_set(), model="weighted")


def label_by_dawid_skene(_: Path) -> Any:
    return _labeled(rule_set(), model="dawid_skene", iterations=7)


def label_by_dawid_skene_without_dev(_: Path) -> Any:
    return _labeled(rule_set(), dev=None, model="dawid_skene")


def label_by_weights_of_multi_label(_: Path) -> Any:
    return _labeled(rule_set(multi_label=True), dev=None, model="weighted")


def label_by_snorkel_fast(_: Path) -> Any:
    return _labeled(rule_set(most=7), model="snorkel_fast", epochs=50, seed=3)


def label_multi_label(_: Path) -> Any:
    return _labeled(rule_set(multi_label=True), dev=several(DEV))


def label_multi_label_by_majority(_: Path) -> Any:
    return _labeled(rule_set(multi_label=True), dev=several(DEV), model="majority")


def label_multi_label_without_dev(_: Path) -> Any:
    return _labeled(rule_set(multi_label=True), dev=None)


def label_with_default_tag(_: Path) -> Any:
    return _labeled(rule_set(most=4, otherwise="вклад"))


def report_with_dev(_: Path) -> Any:
    rules = rule_set(most=10)
    given = votes(UNLABELED, rules)
    labels_found = labels(UNLABELED).with_columns(pl.exclude("id").backward_fill()).lazy()
    return rule_report(given, rules, labels_found, votes(DEV, rules), DEV.lazy())


def report_without_dev(_: Path) -> Any:
    rules = rule_set(otherwise="card")
    return rule_report(votes(UNLABELED, rules), rules)


def report_of_multi_label(_: Path) -> Any:
    rules = rule_set(multi_label=True)
    return rule_report(votes(UNLABELED, rules), rules, None, votes(several(DEV), rules), several(DEV).lazy())


def _refined(found: Any) -> dict[str, Any]:
    """Returns the results of the step, without the seconds of its rounds."""
    page, times = re.subn(r"<h2>Rounds</h2>.*?</table>", "", found.report.html, flags=re.DOTALL)
    assert times == 1
    return found._asdict() | {"rules": found.rules.text.splitlines(), "report": Report(page)}


TO_REFINE, TO_JUDGE = messages(200), messages(60, first=2000)


def refine_from_nothing(_: Path) -> Any:
    unlabeled = TO_REFINE.drop("tag").lazy()
    return _refined(refine_rules(unlabeled, TO_JUDGE.lazy(), None, messages(40, first=3000).lazy(), rounds=2))


def refine_from_respelled_texts(_: Path) -> Any:
    unlabeled, dev = respelled(TO_REFINE.drop("tag")), respelled(TO_JUDGE)
    return _refined(refine_rules(unlabeled.lazy(), dev.lazy(), None, rounds=1))


def refine_given_rules_of_multi_label(_: Path) -> Any:
    rules = rule_set(most=2, multi_label=True)
    return _refined(refine_rules(TO_REFINE.drop("tag").lazy(), several(TO_JUDGE).lazy(), rules, rounds=1, seed=1))


def refine_by_an_llm(_: Path) -> Any:
    rule = {"name": "loans", "tag": "loan", "any": ["loan", "кредиту", "кредита"], "regex": None, "against": False}
    bad = rule | {"name": "bad", "any": None, "regex": "("}

    def answer(handler: Handler) -> bool:
        return handler.complete(json.dumps({"rules": [rule, bad]}))

    def refine(llm: Llm) -> Any:
        return refine_rules(
            TO_REFINE.drop("tag").lazy(), TO_JUDGE.lazy(), rule_set(most=2), proposers=["llm"], rounds=1, llm=llm
        )

    return _refined(_with_llm(refine, always=answer))


CASES = {
    "kommuna.steps:apply_rules": [
        apply_odd_texts,
        apply_to_respelled_texts,
        apply_multi_label,
        apply_with_default_tag,
        apply_questions,
    ],
    "kommuna.steps:ask_votes": [
        ask_questions,
        ask_about_multi_label,
        ask_of_a_model_that_refuses,
    ],
    "kommuna.steps:label_messages": [
        label_by_kommuna,
        label_by_kommuna_without_dev,
        label_by_majority,
        label_by_weights,
        label_by_dawid_skene,
        label_by_dawid_skene_without_dev,
        label_by_weights_of_multi_label,
        label_by_snorkel_fast,
        label_multi_label,
        label_multi_label_by_majority,
        label_multi_label_without_dev,
        label_with_default_tag,
    ],
    "kommuna.steps:rule_report": [
        report_with_dev,
        report_without_dev,
        report_of_multi_label,
    ],
    "kommuna.steps:refine_rules": [
        refine_from_nothing,
        refine_from_respelled_texts,
        refine_given_rules_of_multi_label,
        refine_by_an_llm,
    ],
}
