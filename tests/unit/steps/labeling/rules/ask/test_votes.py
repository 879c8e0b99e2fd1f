"""Votes by an LLM's answers: which questions are sent, the budget, and failures."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from tests.rigs.llm_server import Fault, LlmServer, body, cut, refuses_where, says, status

from kommuna.errors import LlmSettings, LlmUnreachable, NoUsableAnswers, RulesError, SpecError
from kommuna.spec.rules import RuleSet
from kommuna.spec.step import StoreAddress
from kommuna.steps.labeling.apply import apply_rules
from kommuna.steps.labeling.rules.ask.answer_cache import AnswerCache, digest_of
from kommuna.steps.labeling.rules.ask.prompt import prompt_in
from kommuna.steps.labeling.rules.ask.votes import AskVotes
from kommuna.steps.llm.client import Llm

Ask = Callable[..., AskVotes]

TEXTS = ["my card is lost", "a loan please", "hello", None, "  ", "card and loan ???", "my card is lost"]


def columns(result: AskVotes) -> dict[str, list[object]]:
    return result.votes.drop("id").to_dict(as_series=False)


def test_yes_is_a_vote_and_no_and_dont_know_are_abstentions(ask: Ask, server: LlmServer) -> None:
    result = ask(TEXTS)
    assert result.votes["id"].to_list() == list(range(7))
    assert columns(result) == {
        "ask_card": ["card", None, None, None, None, None, "card"],
        "ask_loan": [None, "loan", None, None, None, None, None],
    }
    assert len(server.pairs) == len(set(server.pairs)) == 8  # four different texts, two questions, each once
    metrics = result.metrics
    assert (metrics["ask_wanted"], metrics["ask_answered"], metrics["ask_unknown"]) == (8, 8, 2)
    assert (metrics["llm_requests"], metrics["ask_cached"], metrics["ask_unasked"]) == (1, 0, 0)
    assert metrics["llm_latency_p95"] > 0


def test_no_is_a_vote_against_the_tag_with_no_is_against(ask: Ask) -> None:
    rules = [
        {"name": "both_ways", "tag": "card", "ask": "Does it mention card?", "no_is_against": True},
        {"name": "against", "tag": "loan", "ask": "Does it mention hello?", "against": True},
    ]
    texts = ["my card", "hello", "card ???"]
    assert columns(ask(texts, rules=rules)) == {"both_ways": ["card", "!card", None], "against": [None, "!loan", None]}
    assert columns(ask(texts, rules=rules, multi_label=True)) == {
        "both_ways": [1, 0, None],
        "against": [None, 0, None],
    }


def test_no_is_against_is_for_ask_rules_only(ask: Ask) -> None:
    with pytest.raises(SpecError, match="`no_is_against`, which goes with `ask`, not with `any`"):
        ask(["x"], rules=[{"name": "a", "tag": "card", "any": ["x"], "no_is_against": True}])


def test_answers_for_and_against_the_same_tag_abstain_and_are_counted(ask: Ask, server: LlmServer) -> None:
    rules = [
        {"name": "for_it", "tag": "card", "ask": "Does it mention card?"},
        {"name": "not_it", "tag": "card", "ask": "Does it mention lost?", "against": True},
        {"name": "other", "tag": "loan", "ask": "Does it mention loan?"},
    ]
    result = ask(["card", "lost", "lost card loan", "nothing"], rules=rules, max_failed=0.5)
    assert columns(result) == {
        "for_it": ["card", None, None, None],
        "not_it": [None, "!card", None, None],
        "other": [None, None, "loan", None],
    }
    assert result.metrics["ask_contradictory"] == 2
    with pytest.raises(NoUsableAnswers, match="2 of 12 answers of model 'tiny' are unusable: 2 contradictory"):
        ask(["card", "lost", "lost card loan", "nothing"], rules=rules, max_failed=0.1)


def test_several_messages_and_questions_share_a_request(ask: Ask, server: LlmServer) -> None:
    ask([f"text {i}" for i in range(20)], messages_per_request=8)
    assert sorted(len(request.texts) for request in server.received) == [4, 8, 8]
    assert all(len(request.asked["questions"]) == 2 for request in server.received)
    schema = server.received[0].body["response_format"]["json_schema"]["schema"]
    assert schema["$defs"]["answers"]["properties"]["q2"]["enum"] == ["yes", "no", "unknown"]


def test_long_messages_share_a_request_with_fewer(ask: Ask, server: LlmServer) -> None:
    ask([f"{i} " + "long " * 1500 for i in range(4)])
    assert [len(request.texts) for request in server.received] == [1, 1, 1, 1]


def test_a_question_that_two_rules_share_is_sent_once(ask: Ask, server: LlmServer) -> None:
    rules = [
        {"name": "a", "tag": "card", "ask": "Does it mention card?"},
        {"name": "b", "tag": "loan", "ask": " Does it  mention card?", "against": True},
    ]
    assert columns(ask(["card"], rules=rules)) == {"a": ["card"], "b": ["!loan"]}
    assert server.pairs == [("card", "Does it mention card?")]


def test_questions_that_differ_only_by_personal_data_are_refused(ask: Ask, server: LlmServer) -> None:
    rules = [
        {"name": f"ask_{end}", "tag": "card", "ask": f"Does it mention +7 916 123-45-{end}?"} for end in ("67", "68")
    ]
    with pytest.raises(RulesError, match=r"rules 'ask_67' and 'ask_68' would ask the same question: .*\[PHONE\]"):
        ask(["my card"], rules=rules)
    assert server.received == []


def test_an_answered_question_is_never_sent_again(ask: Ask, server: LlmServer) -> None:
    first = ask(TEXTS)
    again = ask([*TEXTS, "a new card"])
    assert again.votes.head(7).equals(first.votes)
    assert server.pairs[8:] == [("a new card", "Does it mention card?"), ("a new card", "Does it mention loan?")]
    assert (again.metrics["ask_cached"], again.metrics["ask_answered"]) == (8, 2)
    third = ask(TEXTS)
    assert third.metrics["llm_requests"] == 0
    assert third.votes.equals(first.votes)


def test_russian_messages_are_asked_about_in_russian(ask: Ask, server: LlmServer) -> None:
    ask(["моя card потеряна", "кредит"])
    ask(["my card is lost", "a loan: кредит"])
    said = [one.body["messages"][0]["content"] for one in server.received]
    assert ("Ты размечаешь" in said[0], "You label" in said[-1]) == (True, True)


def test_the_prompts_ask_for_the_same_form() -> None:
    texts = [prompt_in(language).instructions for language in ("english", "russian")]
    assert len({text.splitlines()[-1].partition("{")[2] for text in texts}) == 1
    assert [sorted(re.findall(r'"(yes|no|unknown)"', text)) for text in texts] == [
        ["no", "unknown", "unknown", "yes", "yes"]
    ] * 2


def test_an_answer_that_concurrent_runs_received_differently_is_asked_again(
    ask: Ask, server: LlmServer, shared: StoreAddress
) -> None:
    ask(["my card", "a loan"])
    other = AnswerCache(shared, model="tiny", prompt_version=prompt_in("english").version)
    question = digest_of("Does it mention card?")
    other.write(pl.DataFrame({"text": [digest_of("my card")], "question": question, "answer": 0, "confidence": None}))
    again = ask(["my card", "a loan"])
    assert server.pairs[4:] == [("my card", "Does it mention card?")]
    assert again.votes["ask_card"].to_list() == ["card", None]
    assert (again.metrics["ask_asked_again"], again.metrics["ask_contradictory"]) == (1, 0)
    third = ask(["my card", "a loan"])
    assert third.votes.equals(again.votes)
    assert (third.metrics["ask_asked_again"], third.metrics["llm_requests"]) == (0, 0)


def test_the_answers_of_a_damaged_segment_are_asked_again(ask: Ask, server: LlmServer, tmp_path: Path) -> None:
    first = ask(["my card"])
    (segment,) = tmp_path.rglob("*.parquet")
    raw = bytearray(segment.read_bytes())
    raw[20] ^= 1
    segment.write_bytes(raw)
    again = ask(["my card"])
    assert again.votes.equals(first.votes)
    assert (again.metrics["ask_damaged_segments"], len(server.pairs)) == (1, 4)
    assert ask(["my card"]).metrics["ask_damaged_segments"] == 0


def test_what_an_endpoint_accepts_is_found_out_once(ask: Ask, server: LlmServer) -> None:
    server.json_schema = False
    ask(["my card"])
    before = len(server.received)
    ask(["a loan"])
    forms = [request.body["response_format"]["type"] for request in server.received]
    assert forms[before:] == ["json_object"]


def test_only_new_questions_are_sent(ask: Ask, server: LlmServer) -> None:
    ask(["my card"], rules=[{"name": "a", "tag": "card", "ask": "Does it mention card?"}])
    ask(["my card"])
    assert server.pairs[1:] == [("my card", "Does it mention loan?")]


def test_another_model_gets_all_questions(ask: Ask, server: LlmServer) -> None:
    ask(["my card"])
    ask(["my card"], model="other")
    ask(["my card"], endpoint={"model": "third"})
    assert [request.body["model"] for request in server.received] == ["tiny", "other", "third"]


def test_no_personal_data_reaches_the_server_even_if_messages_were_not_masked(ask: Ask, server: LlmServer) -> None:
    texts: list[str | None] = [
        "card 4111 1111 1111 1111 is lost",
        "phone +7 916 123-45-67, loan",
        "mail a.petrov@mail.example",
        "account DE89 3704 0044 0532 0130 00",
        "СНИЛС 112-233-445 95",
        "это Мария Кузнецова, card",
    ]
    result = ask(texts, names=["Мария", "Кузнецова"])
    seen = str([request.body for request in server.received])
    for secret in ("4111", "916", "petrov", "3704", "112-233", "Мария", "Кузнецова"):
        assert secret not in seen
    for mask in ("[CARD]", "[PHONE]", "[EMAIL]", "[IBAN]", "[SNILS]", "[NAME]"):
        assert mask in seen
    assert result.metrics["ask_unmasked_rows"] == 6
    assert result.votes["ask_card"].to_list() == ["card", None, None, None, None, "card"]


def test_texts_that_differ_only_in_personal_data_share_an_answer(ask: Ask, server: LlmServer) -> None:
    result = ask(["card 4111 1111 1111 1111", "card 5500 0000 0000 0004"])
    assert len(server.pairs) == 2
    assert result.votes["ask_card"].to_list() == ["card", "card"]


# --- budgets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", [{"tokens": 0}, {"money": 0.0}])
def test_with_a_budget_of_zero_only_cached_answers_are_used(
    ask: Ask, server: LlmServer, budget: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    ask(["my card"])
    result = ask(["my card", "a loan"], **budget)
    assert result.votes["ask_card"].to_list() == ["card", None]
    assert result.votes["ask_loan"].to_list() == [None, None]
    assert (result.metrics["ask_unasked"], result.metrics["llm_requests"], len(server.received)) == (2, 0, 1)
    output = capsys.readouterr().out
    assert "ask.budget_spent" in output
    assert "raise the budget: earlier answers are kept" in output


def test_a_spent_budget_ends_the_run_and_the_next_run_sends_the_rest(ask: Ask, server: LlmServer) -> None:
    texts = [f"card {i}" for i in range(100)]
    first = ask(texts, tokens=3_000)
    done = int(first.metrics["ask_answered"])
    assert 0 < done < 200
    assert first.metrics["ask_unasked"] == 200 - done
    assert first.votes["ask_card"].count() == done // 2
    assert first.metrics["llm_tokens_in"] + first.metrics["llm_tokens_out"] <= 3_000
    second = ask(texts)
    assert second.votes["ask_card"].to_list() == ["card"] * 100
    assert second.metrics["ask_cached"] == done
    assert len(server.pairs) == len(set(server.pairs)) == 200


# --- unusable answers --------------------------------------------------------------------------------------------


def test_a_prompt_that_is_too_long_is_split(ask: Ask, server: LlmServer) -> None:
    server.most_characters = 1300
    texts = [f"card {i} " + "x" * 150 for i in range(16)]
    result = ask(texts, messages_per_request=16)
    assert result.votes["ask_card"].to_list() == ["card"] * 16
    assert max(len(request.texts) for request in server.answered) < 16
    assert result.metrics["ask_too_long"] == 0


def test_a_single_text_that_is_too_long_abstains_and_is_counted(ask: Ask, server: LlmServer) -> None:
    server.most_characters = 2000
    result = ask([*(f"card {i}" for i in range(15)), "card " + "x" * 3000], messages_per_request=16, max_failed=0.1)
    assert result.votes["ask_card"].to_list() == ["card"] * 15 + [None]
    assert result.metrics["ask_too_long"] == 2
    assert result.metrics["ask_answered"] == 30


def test_a_refused_text_does_not_affect_the_other_texts_of_its_request(ask: Ask, server: LlmServer) -> None:
    server.always = refuses_where("forbidden")
    result = ask([*(f"card {i}" for i in range(15)), "forbidden card"], messages_per_request=16, max_failed=0.1)
    assert result.votes["ask_card"].to_list() == ["card"] * 15 + [None]
    assert result.metrics["ask_refused"] == 2


def test_the_usable_part_of_a_response_is_used_and_the_rest_is_sent_again(ask: Ask, server: LlmServer) -> None:
    server.faults = [says('{"m1": {"q1": "Yes", "q2": "maybe"}, "m2": {"q1": "no"}, "m9": 1}')]
    result = ask(["card one", "loan two"])
    assert columns(result) == {"ask_card": ["card", None], "ask_loan": [None, "loan"]}
    assert sorted(server.pairs) == [
        ("card one", "Does it mention loan?"),
        ("loan two", "Does it mention loan?"),
    ]


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (says({"m1": {"q1": "yes"}}), "malformed"),
        (says([1]), "malformed"),
        (says(17), "malformed"),
        (says("[" * 200_000), "malformed"),
        (says("{" * 200_000), "malformed"),
        (says('{"m1": {"q1": "yes', finish="length"), "cut"),
        (status(403, "flagged by moderation"), "refused"),
        (status(400, "unsupported response_format"), "refused"),
        (status(422, "no"), "refused"),
        (status(451, "no"), "refused"),
        (status(500, "unsupported temperature"), "lost"),
        (body(b'{"choices": ' + b"[" * 200_000), "lost"),
        (body(b'{"error": {"message": "odd"}}'), "lost"),
        (body(b'{"error": {"message": "odd", "code": 403}}'), "refused"),
    ],
    ids=[
        "object", "list", "number", "deep list", "deep object", "cut", "403", "400", "422", "451", "500", "deep body",
        "200 with an error", "200 with 403",
    ],
)  # fmt: skip
@pytest.mark.parametrize("place", [0, 5, 15])
def test_an_odd_response_to_one_message_costs_only_its_answers(
    ask: Ask, server: LlmServer, fault: Fault, reason: str, place: int
) -> None:
    server.always = lambda handler: "odd" in handler.request_body["messages"][-1]["content"] and fault(handler)
    texts = [f"card {i}" for i in range(16)]
    texts[place] = "odd card"
    result = ask(texts, messages_per_request=4, max_failed=0.1, endpoint={"concurrency": 1})
    expected: list[str | None] = ["card"] * 16
    expected[place] = None
    assert result.votes["ask_card"].to_list() == expected
    assert result.metrics[f"ask_{reason}"] == 2
    assert result.metrics["ask_answered"] == 30
    assert len(server.pairs) == len(set(server.pairs)) == 30


def test_the_complete_part_of_a_truncated_answer_is_used(ask: Ask, server: LlmServer) -> None:
    server.faults = [says('{"m1": {"q1": "yes", "q2": "no"}, "m2": {"q1": "n', finish="length")]
    result = ask(["card one", "loan two", "card three"])
    assert result.votes["ask_card"].to_list() == ["card", None, "card"]
    assert {text for text, _ in server.pairs} == {"loan two", "card three"}


def test_malformed_answers_are_abstentions_up_to_the_allowed_share(ask: Ask, server: LlmServer) -> None:
    def malformed(question: str, text: str) -> str:
        return "perhaps" if "odd" in text else "yes"

    server.answer = malformed
    texts = [*(f"card {i}" for i in range(18)), "odd one", "odd two"]
    result = ask(texts, max_failed=0.1)
    assert result.votes["ask_card"].to_list() == ["card"] * 18 + [None, None]
    assert (result.metrics["ask_malformed"], result.metrics["ask_answered"]) == (4, 36)
    with pytest.raises(NoUsableAnswers) as caught:
        ask(texts, max_failed=0.05)
    assert caught.value.exit_code == 2
    assert "of 40 answers of model 'tiny' are unusable: 3 malformed" in str(caught.value)
    assert "the share that may fail is 0.05" in str(caught.value)


def test_a_model_without_any_usable_answer_is_stopped_early(ask: Ask, server: LlmServer) -> None:
    server.always = says("I would say yes!")
    with pytest.raises(NoUsableAnswers, match="malformed"):
        ask([f"card {i}" for i in range(5_000)], max_failed=0.5)
    assert len(server.received) < 300


def test_contradictory_json_is_an_abstention(ask: Ask, server: LlmServer) -> None:
    server.always = says('{"m1": {"q1": "yes", "q1": "no"}}')
    rule = [{"name": "a", "tag": "card", "ask": "Does it mention card?"}]
    result = ask(["card"], rules=rule, max_failed=1.0)
    assert result.votes["a"].to_list() == [None]
    assert result.metrics["ask_contradictory"] == 1


def test_a_lost_request_is_counted_and_the_others_continue(ask: Ask, server: LlmServer) -> None:
    def fault(handler: object) -> bool:
        bad = "poison" in handler.request_body["messages"][-1]["content"]  # type: ignore[attr-defined]
        return status(500, "crash")(handler) if bad else False  # type: ignore[arg-type]

    server.always = fault
    texts = [*(f"card {i}" for i in range(40)), "poison"]
    result = ask(texts, messages_per_request=4, max_failed=0.1, endpoint={"concurrency": 1})
    assert result.votes["ask_card"].to_list() == ["card"] * 40 + [None]
    assert result.metrics["ask_lost"] == 2


# --- a failing endpoint ---------------------------------------------------------------------------------------------


def test_answers_are_kept_if_the_endpoint_goes_down_during_a_run(ask: Ask, server: LlmServer) -> None:
    server.faults = [None] * 5
    server.always = status(503, "down")
    texts = [f"card {i}" for i in range(80)]
    with pytest.raises(LlmUnreachable, match=r"503: down \(3 tries\)"):
        ask(texts, messages_per_request=2, endpoint={"concurrency": 1}, max_failed=1.0)
    server.always = None
    assert ask(texts).metrics["ask_cached"] == 20
    assert len(server.pairs) == len(set(server.pairs)) == 160


def test_more_lost_requests_than_allowed_are_an_outage_that_is_retried(ask: Ask, server: LlmServer) -> None:
    server.faults = [None]
    server.always = status(503, "down")
    with pytest.raises(LlmUnreachable) as caught:
        ask([f"card {i}" for i in range(16)], messages_per_request=4, endpoint={"concurrency": 1}, max_failed=0.05)
    assert caught.value.exit_code == 1
    assert len(server.received) == 1 + 3 + 3  # one answered, one lost after three tries, then its first message


def test_an_endpoint_that_is_down_is_an_error(ask: Ask, free_port: Callable[[], int]) -> None:
    with pytest.raises(LlmUnreachable, match="does not answer: All connection attempts failed") as caught:
        ask(["card"], endpoint={"url": f"http://127.0.0.1:{free_port()}/v1"})
    assert caught.value.exit_code == 1


def test_a_wrong_key_is_an_error(ask: Ask, server: LlmServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BANK_LLM_KEY", "sk-wrong")
    server.key = "sk-right"
    with pytest.raises(LlmSettings, match="the LLM endpoint rejects the key in BANK_LLM_KEY: 401") as caught:
        ask(["card"], endpoint={"key_variable": "BANK_LLM_KEY"})
    assert "sk-wrong" not in str(caught.value)


def test_a_wrong_model_is_an_error(ask: Ask, server: LlmServer) -> None:
    server.model = "large"
    with pytest.raises(LlmSettings, match="the LLM endpoint has no model 'tiny': 404"):
        ask(["card"])


def test_temporary_failures_change_no_vote(ask: Ask, server: LlmServer) -> None:
    texts = [f"{'card' if i % 3 else 'loan'} {i}" for i in range(60)]
    expected = ask(texts, keep=False).votes
    server.faults = [status(429, "slow"), cut, status(500, "x"), None, says('{"m1"'), None, status(503, "x")]
    result = ask(texts, keep=False, messages_per_request=4)
    assert result.votes.equals(expected)
    assert result.metrics["llm_retries"] == 4


# --- with other rules ------------------------------------------------------------------------------------------------


def test_apply_rules_evaluates_ask_rules_together_with_others(server: LlmServer) -> None:
    from kommuna.spec.llm import LlmEndpoint, Llms

    rules = RuleSet.read(
        {
            "tags": ["card", "loan"],
            "rules": [
                {"name": "words", "tag": "loan", "any": ["loan"]},
                {"name": "asked", "tag": "card", "ask": "Does it mention card?", "no_is_against": True},
                {"name": "big", "tag": "loan", "sql": "amount > 10"},
            ],
        },
        where="test",
    )
    messages = pl.LazyFrame({"id": ["c", "a", "b"], "text": ["card", "loan", None], "amount": [1, 20, 30]})
    llm = Llm(Llms(light=LlmEndpoint(url=server.url, model="tiny")))
    applied = apply_rules(messages, rules, llm=llm)
    votes = applied.votes.collect()
    assert votes.columns == ["id", "words", "asked", "big"]
    assert votes["asked"].dtype == pl.Enum(["card", "loan", "!card"])
    assert votes.rows() == [("c", None, "card", None), ("a", "loan", "!card", "loan"), ("b", None, None, "loan")]
    assert (applied.metrics["ask_answered"], applied.metrics["rows"]) == (2, 3)


def test_ask_rules_without_an_llm_are_refused(rule_set: Callable[..., RuleSet]) -> None:
    rules = rule_set({"name": "asked", "tag": "card", "ask": "Is it?"})
    with pytest.raises(LlmSettings, match="no light LLM is configured"):
        apply_rules(pl.LazyFrame({"id": [1], "text": ["x"]}), rules)


def test_invalid_messages_are_refused_before_any_request(server: LlmServer, tmp_path: Path) -> None:
    from kommuna.errors import DuplicateKeys
    from kommuna.spec.llm import LlmEndpoint, Llms

    rules = RuleSet.read(
        {"tags": ["card"], "rules": [{"name": "a", "tag": "card", "ask": "Is it card?"}]}, where="test"
    )
    llm = Llm(Llms(light=LlmEndpoint(url=server.url, model="tiny")))
    with pytest.raises(DuplicateKeys):
        apply_rules(pl.LazyFrame({"id": [1, 1], "text": ["x", "y"]}), rules, llm=llm)
    assert server.received == []
