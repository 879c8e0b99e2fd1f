"""The LLM proposer, with a server: the rows that it sends, and the rules that it accepts."""

import json

import numpy as np
import polars as pl
import pytest
from tests.rigs.llm_server import LlmServer, status

from kommuna.errors import LlmUnreachable
from kommuna.spec.llm import Budget, LlmEndpoint, Llms
from kommuna.steps.labeling.refine.llm import LlmProposer
from kommuna.steps.labeling.refine.proposal import LoopState
from kommuna.steps.llm.client import Llm
from kommuna.steps.llm.session import LlmRetryPolicy

GOOD = {"name": "gone", "tag": "card", "any": ["card is gone"], "regex": None, "against": False}


@pytest.fixture
def server():
    started = LlmServer().start()
    yield started
    started.stop()


def nothing_shown(data):
    return np.zeros(data.dev.height, dtype=bool)


@pytest.fixture
def propose(server, data, answer_with):
    """Calls a proposer whose model returns these rules: `propose(rule, …)`."""

    def run(*rules, budget=None, assigned=None, raw=None, tokens=110):
        content = raw if raw is not None else json.dumps({"rules": list(rules)})
        server.always = lambda handler: answer_with(handler, content, tokens=tokens)
        llms = Llms(heavy=LlmEndpoint(url=server.url, model="heavy"))
        heavy = Llm(llms, retry_policy=LlmRetryPolicy(tries=2, pause=0.01)).heavy(budget or Budget())
        assigned = np.zeros_like(data.truth) if assigned is None else assigned
        return LlmProposer(heavy, seed=0).propose(LoopState(data, (), assigned, 1, nothing_shown(data)))

    return run


def test_a_rule_of_a_response_becomes_a_proposal(propose, data):
    assigned = data.truth.copy()
    assigned[:, data.tags.index("card")] = False
    answer = propose(GOOD, assigned=assigned)
    (proposal,) = answer.rules
    assert proposal.rule.any == ("card is gone",)
    assert proposal.rule.tag == "card"
    assert proposal.origin == "llm"


def test_at_most_half_of_the_missed_rows_are_shown_and_these_do_not_evaluate_the_rule(propose, data, server):
    assigned = data.truth.copy()
    card = data.tags.index("card")
    missed = np.flatnonzero(data.truth[:, card])[:12]
    assigned[missed, card] = False
    (proposal,) = propose(GOOD | {"any": ["card"]}, assigned=assigned).rules
    (request,) = server.received
    shown = json.loads(request.body["messages"][-1]["content"])["missed"]
    fires = data.dev["text"].str.contains(r"\bcard\b").to_numpy()
    silenced = np.flatnonzero(fires & ~proposal.dev)
    assert sorted(text for text in shown if "card" in text) == sorted(data.dev["text"][int(i)] for i in silenced)
    assert len(shown) == 6
    assert set(silenced) <= set(missed.tolist())
    assert not (proposal.dev & ~fires).any()


def test_a_model_that_remembers_texts_is_not_evaluated_on_them(server, answer_with, make_messages, make_refine_data):
    """Its rules are whole messages that any earlier prompt has shown; every text is in dev twice."""
    dev = make_messages(150, 2, "d").with_columns(pl.concat_str("text", pl.lit(" no "), "id").alias("text"))
    copies = dev.with_columns(pl.col("id") + "copy", pl.col("text").str.to_uppercase() + "!")
    data = make_refine_data(make_messages(500, 1, "m").drop("tag").lazy(), pl.concat([dev, copies]))
    remembered = {}

    def answer(handler):
        asked = json.loads(handler.request_body["messages"][-1]["content"])
        remembered.update(dict.fromkeys(asked["missed"], asked["tag"]))
        rules = [
            {"name": "whole", "tag": tag, "any": None, "regex": f"^{text.rstrip('!')}", "against": False}
            for text, tag in remembered.items()
        ]
        return answer_with(handler, json.dumps({"rules": rules[-6:]}), tokens=110)

    server.always = answer
    heavy = Llm(Llms(heavy=LlmEndpoint(url=server.url, model="heavy"))).heavy(Budget())
    shown = np.zeros(data.dev.height, dtype=bool)
    assigned = np.zeros_like(data.truth)
    for number in range(1, 5):
        answered = LlmProposer(heavy, seed=0).propose(LoopState(data, (), assigned, number, shown))
        assert answered.rules
        assert not any(proposal.dev.any() for proposal in answered.rules)
        assert not (shown & ~answered.shown).any()
        assert answered.shown.sum() > shown.sum()
        shown = answered.shown
    asked = [json.loads(request.body["messages"][-1]["content"])["missed"] for request in server.received]
    texts = [text for missed in asked for text in missed]
    assert len(set(texts)) == len(texts)  # no row is shown twice


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (GOOD | {"any": None, "regex": r"(a+)+(?=$)"}, "a regex with look-around"),
        (GOOD | {"any": None, "regex": r"((a{90}){90}){90}"}, "a regex too large"),
        (GOOD | {"any": None, "regex": "(card"}, "a regex that cannot be read"),
        (GOOD | {"tag": "crad"}, "an unknown tag"),
        (GOOD | {"any": None}, "something that is not a rule"),
        (GOOD | {"regex": "card"}, "something that is not a rule"),
        (GOOD | {"any": "card"}, "something that is not a rule"),
        (GOOD | {"any": ["!", "card"]} | {"extra": 1}, "something that is not a rule"),
        (GOOD | {"any": None, "regex": ".{0,1900}zq"}, "a regex too large"),
        (GOOD | {"any": [" - "]}, "a keyword without a letter"),
        (GOOD | {"any": [f"w{i}" for i in range(99)]}, "too many keywords, or one too long"),
        (GOOD | {"any": ["card " * 200_000]}, "too many keywords, or one too long"),
        (GOOD | {"group": "off"}, "something that is not a rule"),
        (GOOD | {"stem": True}, "something that is not a rule"),
        ({"name": "x", "tag": "card", "python": "os:system"}, "a kind of rule that an LLM may not write"),
        ({"name": "x", "tag": "card", "sql": "1 = 1"}, "a kind of rule that an LLM may not write"),
    ],
)
def test_an_invalid_rule_is_counted_and_never_applied(propose, data, rule, reason):
    answer = propose(rule)
    assert answer.rules == []
    assert answer.refused == {reason: 3}  # one per tag
    assert answer.ended == ""


@pytest.mark.parametrize(
    "raw", ['{"rules": "card"}', "tags: [a]\nrules: []", '{"rules": [', "[1, 2]", '{"rules": [7]}']
)
def test_a_response_that_is_not_a_list_of_rules_is_counted(propose, raw):
    answer = propose(raw=raw)
    assert answer.rules == []
    assert sum(answer.refused.values()) == 3


def test_rules_from_before_the_budget_was_spent_are_kept(propose):
    """The first response takes 6,000 of 8,000 tokens; the second may take 2,048."""
    answer = propose(GOOD, budget=Budget(tokens=8_000), tokens=6_000)
    assert len(answer.rules) == 1
    assert answer.ended == "its budget is spent"


def test_with_a_budget_of_zero_no_request_is_sent(propose, server):
    answer = propose(GOOD, budget=Budget(tokens=0))
    assert (answer.rules, answer.ended, server.received) == ([], "its budget is spent", [])


def test_an_endpoint_that_is_down_is_an_error_to_retry(propose, server, data):
    server.always = status(503, "overloaded")
    heavy = Llm(
        Llms(heavy=LlmEndpoint(url=server.url, model="heavy")), retry_policy=LlmRetryPolicy(tries=2, pause=0.01)
    ).heavy(Budget())
    with pytest.raises(LlmUnreachable):
        LlmProposer(heavy, seed=0).propose(LoopState(data, (), np.zeros_like(data.truth), 1, nothing_shown(data)))


def test_a_name_that_is_in_use_gets_a_number(propose):
    names = [proposal.rule.name for proposal in propose(GOOD, GOOD).rules]
    assert len(set(names)) == len(names) == 6
    assert names[:2] == ["card.gone", "card.gone-2"]
