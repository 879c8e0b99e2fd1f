"""The confidence of answers: read from log probabilities, kept with the answers, absent where a server gives none."""

from __future__ import annotations

import io
import math

import pytest
from tests.rigs.llm_server import Handler, LlmServer, status
from tests.unit.steps.labeling.rules.ask.conftest import Ask

from kommuna.spec.step import StoreAddress
from kommuna.steps.labeling.rules.ask.answer_cache import AnswerCache
from kommuna.steps.labeling.rules.ask.confidence import confidences
from kommuna.steps.labeling.rules.ask.prompt import prompt_in

TEXTS: list[str | None] = ["my card", "a loan", "a card for a loan", None]
SURE = {("card", "my card"): 0.9, ("loan", "a loan"): 0.6, ("card", "a card for a loan"): 0.7}


@pytest.fixture
def sure(server: LlmServer) -> LlmServer:
    server.logprobs = True
    server.sure = lambda question, text: SURE.get((question.rstrip("?").split()[-1], text), 0.5)
    return server


def test_a_vote_has_the_probability_of_its_answer(sure: LlmServer, ask: Ask) -> None:
    votes = ask(TEXTS).votes
    assert votes["ask_card:confidence"].to_list() == pytest.approx([0.9, None, 0.7, None], abs=1e-6)
    assert votes["ask_loan:confidence"].to_list() == pytest.approx([None, 0.6, 0.5, None], abs=1e-6)
    assert all(request.body["logprobs"] is True for request in sure.received)


def test_confidences_are_kept_with_the_answers(sure: LlmServer, ask: Ask) -> None:
    first = ask(TEXTS).votes
    sent = len(sure.received)
    assert ask(TEXTS).votes.equals(first)
    assert len(sure.received) == sent


def test_a_server_without_log_probabilities_gives_votes_alone(server: LlmServer, ask: Ask) -> None:
    assert ask(TEXTS).votes.columns == ["id", "ask_card", "ask_loan"]
    assert len({pair for request in server.received for pair in request.pairs}) == len(server.pairs)  # asked once


@pytest.mark.parametrize("number", [400, 403, 422])
@pytest.mark.parametrize("param", ["logprobs", None], ids=["named", "not named"])
def test_a_model_that_rejects_log_probabilities_is_asked_without(
    server: LlmServer, ask: Ask, number: int, param: str | None
) -> None:
    def rejects(handler: Handler) -> bool:
        return "logprobs" in handler.request_body and status(number, "not allowed for this model", param=param)(handler)

    server.always = rejects
    assert ask(TEXTS).votes["ask_card"].to_list() == ["card", None, "card", None]
    before = len(server.received)
    ask(["another card"])  # it is remembered
    assert len(server.received) == before + 1


def test_answers_of_an_older_version_are_read(shared: StoreAddress, server: LlmServer, ask: Ask) -> None:
    first = ask(TEXTS)
    cache = AnswerCache(shared, model="tiny", prompt_version=prompt_in("english").version)
    (name,) = cache._segments()
    old = io.BytesIO()
    cache._read([name]).drop("confidence").write_parquet(old)
    cache._folder.write(name, old.getvalue())
    sent = len(server.received)
    assert ask(TEXTS).votes.equals(first.votes)
    assert len(server.received) == sent


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (['{"m1": {"q1": "yes", "q2": "no"}}'], {(0, 0): 0.5, (0, 1): 0.5}),  # one token: each word has its probability
        (['{"m1":{"q1":"', "yes", '","q2":"', "no", '"}}'], {(0, 0): 0.5, (0, 1): 0.5}),
        (['{"m1": {"q1": "', "YE", "S", '", "q2": "no"}}', "<|im_end|>"], {(0, 0): 0.25, (0, 1): 0.5}),
        (['{"m1": {"q1": "no", "q2": "', "no", '"}}'], {(0, 1): 0.5}),  # the first is not what was parsed
        (["yes"], {}),
        (['{"m9": {"q1": "yes"}}'], {}),
    ],
)
def test_a_words_probability_is_that_of_the_tokens_that_spell_it(
    parts: list[str], expected: dict[tuple[int, int], float]
) -> None:
    tokens = [(part, math.log(0.5)) for part in parts]
    assert confidences(tokens, {(0, 0): 1, (0, 1): 0}) == pytest.approx(expected)


@pytest.mark.parametrize(
    "content",
    [None, "x", [], [{"token": "x"}], [{"token": "x", "logprob": 0.5}], [{"token": 1, "logprob": -1}], [None],
     [{"token": "x", "logprob": float("nan")}]],
)  # fmt: skip
def test_odd_log_probabilities_are_none(
    server: LlmServer, ask: Ask, monkeypatch: pytest.MonkeyPatch, content: object
) -> None:
    server.logprobs = True
    monkeypatch.setattr(Handler, "tokens", lambda *_: content)
    assert ask(TEXTS).votes.columns == ["id", "ask_card", "ask_loan"]
