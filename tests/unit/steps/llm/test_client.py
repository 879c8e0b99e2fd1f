"""One request to an LLM: the failures of a server, and the errors that users see."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from tests.rigs.llm_server import Fault, LlmServer, body, compressed, counts, cut, drip, hang, says, status

from kommuna.errors import BudgetSpent, KommunaError, LlmAnswerError, LlmSettings, LlmUnreachable, SpecError
from kommuna.spec.llm import Budget, LlmEndpoint, Llms
from kommuna.spec.step import Services
from kommuna.steps.llm.client import Llm, Model
from kommuna.steps.llm.faults import retry_after
from kommuna.steps.llm.session import LlmRetryPolicy
from kommuna.steps.llm.spending import Spending

Build = Callable[..., Model]

QUESTION = {"questions": {"q1": "Does it mention card?"}, "messages": {"m1": "my card"}}
MESSAGES = [{"role": "user", "content": json.dumps(QUESTION)}]
SCHEMA: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": True}
ANSWER = {"m1": {"q1": "yes"}}


def ask(model: Model, **options: Any) -> dict[str, Any]:
    return model.complete_json(MESSAGES, SCHEMA, **({"most_tokens": 50} | options))


def error_of(model: Model) -> KommunaError:
    with pytest.raises(KommunaError) as caught:
        ask(model)
    return caught.value


def test_an_answer_is_a_dict_and_its_tokens_and_price_are_recorded(server: LlmServer, model: Build) -> None:
    asked = model(input_price=2.0, output_price=30.0)
    assert ask(asked) == ANSWER
    assert ask(asked) == ANSWER
    metrics = asked.metrics()
    assert (metrics["llm_requests"], metrics["llm_tokens_in"], metrics["llm_tokens_out"]) == (2, 200, 20)
    assert metrics["llm_cost"] == pytest.approx((200 * 2 + 20 * 30) / 1e6)
    assert 0 < metrics["llm_latency_p50"] <= metrics["llm_latency_p95"]
    sent = server.received[0].body
    assert sent["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA},
    }
    assert (sent["temperature"], sent["max_tokens"], sent["model"]) == (0.0, 50, "tiny")


def test_it_works_inside_a_running_event_loop(model: Build) -> None:
    async def notebook() -> dict[str, Any]:
        return ask(model())

    assert asyncio.run(notebook()) == ANSWER


@pytest.mark.parametrize(
    "fault",
    [
        status(500, "boom"),
        status(503, "overloaded"),
        status(429, "slow down"),
        cut,
        body(b'{"id": "x", "choices": ['),
        body(b"<html>gateway</html>"),
        body(b'{"choices": []}'),
    ],
    ids=["500", "503", "429", "cut", "broken json", "html", "no choices"],
)
def test_a_transient_fault_costs_only_a_retry(server: LlmServer, model: Build, fault: Fault) -> None:
    server.faults = [None, fault, fault]
    asked = model()
    assert [ask(asked), ask(asked)] == [ANSWER, ANSWER]
    assert len(server.received) == 4
    assert asked.metrics()["llm_retries"] == 2


@pytest.mark.parametrize("fault", [hang(30.0), drip(30.0)], ids=["hang", "drip"])
def test_a_response_that_never_ends_is_retried(server: LlmServer, model: Build, fault: Fault) -> None:
    server.faults = [fault]
    asked = model(timeout_seconds=2.0)
    assert ask(asked) == ANSWER
    assert asked.metrics()["llm_lost"] >= 1


@pytest.mark.parametrize(
    ("fault", "seconds", "said"),
    [
        (status(500, "boom"), 60.0, "500: boom"),
        (body(b'{"error": {"message": "upstream", "code": 502}}'), 60.0, "502: upstream"),
        (body(b'{"error": "overloaded"}'), 60.0, "an error with status 200: overloaded"),
        (status(429, "slow down"), 60.0, "429: slow down"),
        (cut, 60.0, ""),
        (body(b"<html>"), 60.0, "the response is not the JSON of a completion"),
        (drip(2.0), 0.2, "no complete answer within 0.2 seconds"),
        (hang(2.0), 0.2, "no complete answer within 0.2 seconds"),
    ],
    ids=["500", "200 with an error", "200 with a text", "429", "cut", "html", "drip", "hang"],
)
def test_a_lasting_fault_is_reported_after_all_tries(
    server: LlmServer, model: Build, fault: Fault, seconds: float, said: str
) -> None:
    asked = model(timeout_seconds=seconds)
    server.faults, server.always = [None], fault
    ask(asked)
    error = error_of(asked)
    assert isinstance(error, LlmUnreachable)
    assert error.exit_code == 1
    assert error.what.startswith(f"the LLM endpoint {server.url} does not answer: {said}")
    assert "(4 tries)" in error.what
    assert "a retry requests the rest" in error.fix
    assert len(server.received) == 1 + 4


def test_an_endpoint_that_is_down_is_reported(free_port: Callable[[], int]) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    error = error_of(Model(LlmEndpoint(url=url, model="m"), retry_policy=LlmRetryPolicy(tries=2, pause=0.01)))
    assert isinstance(error, LlmUnreachable)
    assert error.what == f"the LLM endpoint {url} does not answer: All connection attempts failed (2 tries)"
    assert "check that it is up" in error.fix


def test_retry_after_holds_every_request_back(server: LlmServer, model: Build) -> None:
    server.faults = [status(429, "slow down", headers={"Retry-After": "1"})]
    asked = model(concurrency=2)

    async def two() -> None:
        async with asked.session() as session:
            first = asyncio.create_task(session.complete_json(MESSAGES, SCHEMA, most_tokens=5))
            while not asked.spending.retries:
                await asyncio.sleep(0.01)
            await asyncio.gather(first, session.complete_json(MESSAGES, SCHEMA, most_tokens=5))

    asyncio.run(two())
    refused, *later = server.received
    assert len(later) == 2
    assert all(request.at - refused.at >= 1.0 for request in later)


def test_a_server_that_asks_to_wait_too_long_is_given_up(server: LlmServer, model: Build) -> None:
    server.always = status(429, "quota of the hour", headers={"Retry-After": "3600"})
    error = error_of(model())
    assert error.what.endswith("429: quota of the hour (it asks to wait 3600 seconds)")
    assert len(server.received) == 1


def test_retry_after_may_be_a_date_or_milliseconds() -> None:
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    assert retry_after({"Retry-After": soon}) == pytest.approx(100, abs=5)
    assert retry_after({"retry-after-ms": "1500"}) == 1.5
    assert retry_after({"Retry-After": "7"}) == 7
    assert retry_after({"Retry-After": "soon"}) is None
    assert retry_after({}) is None


def test_a_wrong_key_is_reported_at_once_without_the_key(
    server: LlmServer, model: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BANK_LLM_KEY", "sk-very-secret")
    server.key = "sk-other"
    error = error_of(model(key_variable="BANK_LLM_KEY"))
    assert isinstance(error, LlmSettings)
    assert error.exit_code == 2
    assert error.what == ("the LLM endpoint rejects the key in BANK_LLM_KEY: 401: Incorrect API key provided: ***")
    assert "sk-very-secret" not in str(error)
    assert len(server.received) == 1


def test_the_key_of_the_named_variable_is_sent(
    server: LlmServer, model: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BANK_LLM_KEY", "sk-right")
    server.key = "sk-right"
    assert ask(model(key_variable="BANK_LLM_KEY")) == ANSWER


def test_a_key_that_is_not_set_is_reported(model: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BANK_LLM_KEY", raising=False)
    error = error_of(model(key_variable="BANK_LLM_KEY"))
    assert error.what == "the LLM's API key is not set: there is no environment variable BANK_LLM_KEY"


def test_a_wrong_model_is_reported_at_once(server: LlmServer, model: Build) -> None:
    server.model = "big"
    error = error_of(model())
    assert isinstance(error, LlmSettings)
    assert error.what == "the LLM endpoint has no model 'tiny': 404: The model `tiny` does not exist"
    assert "`model` and `url`" in error.fix
    assert len(server.received) == 1


@pytest.mark.parametrize(
    "fault",
    [
        status(429, "You exceeded your current quota", code="insufficient_quota"),
        status(402, "Insufficient credits", code=402),
        body(b'{"error": {"message": "Insufficient credits", "code": 402}}'),
    ],
)
def test_a_spent_account_is_reported_at_once(server: LlmServer, model: Build, fault: Fault) -> None:
    server.always = fault
    error = error_of(model())
    assert isinstance(error, LlmSettings)
    assert error.what.startswith("the LLM account has no credit left")
    assert len(server.received) == 1


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (says(None, refusal="I can't help with that"), "refused"),
        (says("", finish="content_filter"), "refused"),
        (status(400, "The response was filtered", code="content_filter"), "refused"),
        (says('{"m1": {"q1": "y', finish="length"), "cut"),
        (says("yes, it does"), "malformed"),
        (says("[1, 2]"), "malformed"),
        (says(""), "malformed"),
        (says('{"m1": {"q1": "yes", "q1": "no"}}'), "contradictory"),
        (status(400, "This model's maximum context length is 8192 tokens"), "too_long"),
        (status(400, "the request exceeds the available context size"), "too_long"),
        (status(413, "payload"), "too_long"),
    ],
)
def test_an_unusable_answer_says_why_and_is_not_retried(
    server: LlmServer, model: Build, fault: Fault, reason: str
) -> None:
    asked = model()
    server.faults, server.always = [None], fault
    ask(asked)
    error = error_of(asked)
    assert isinstance(error, LlmAnswerError)
    assert error.reason == reason
    assert len(server.received) == 2


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        (status(400, "no such parameter: messages"), "the LLM endpoint rejects the request: 400: no such parameter"),
        (status(403, "Forbidden"), "the LLM endpoint rejects a request without a key: 403: Forbidden"),
        (status(451, "not in your country"), "the LLM endpoint rejects the request: 451: not in your country"),
    ],
)
def test_a_rejection_of_every_request_is_an_error_of_the_settings(
    server: LlmServer, model: Build, fault: Fault, what: str
) -> None:
    server.always = fault
    error = error_of(model())
    assert isinstance(error, LlmSettings)
    assert error.what.startswith(what)


@pytest.mark.parametrize("number", [400, 403, 422, 451])
@pytest.mark.parametrize("known", [False, True], ids=["first request", "after an answer"])
def test_a_rejection_of_one_request_is_that_requests_refusal(
    server: LlmServer, model: Build, number: int, known: bool
) -> None:
    """A probe is answered, so the key and the form of requests are right."""
    rejection = status(number, "Your input was flagged: the key response_format max_tokens temperature")
    asked = model()
    if known:
        ask(asked)
    server.faults = [rejection]
    error = error_of(asked)
    assert isinstance(error, LlmAnswerError)
    assert error.reason == "refused"
    assert ask(asked) == ANSWER
    forms = [set(request.body) for request in server.received]
    assert all(form == forms[0] for form in forms)


def test_a_server_that_takes_schemas_only_as_json_object_is_supported(
    server: LlmServer, model: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    server.json_schema = False
    asked = model()
    assert [ask(asked), ask(asked)] == [ANSWER, ANSWER]
    forms = [request.body["response_format"]["type"] for request in server.received]
    assert forms == ["json_schema", "json_schema", "json_object", "json_object", "json_object"]
    assert server.received[-1].body["response_format"]["schema"] == SCHEMA
    assert asked.metrics()["llm_retries"] == 0
    assert capsys.readouterr().out.count("llm.dialect") == 1


def test_a_model_that_takes_newer_parameters_is_supported(server: LlmServer, model: Build) -> None:
    server.newer = True
    assert ask(model()) == ANSWER
    assert len(server.received) == 3  # the fields of the errors name the parameters
    last = server.received[-1].body
    assert last["max_completion_tokens"] == 50
    assert "max_tokens" not in last
    assert "temperature" not in last


@pytest.mark.parametrize("words", ["", "response_format is not supported"])
def test_a_server_without_structured_answers_is_supported(server: LlmServer, model: Build, words: str) -> None:
    server.always = lambda handler: (
        "response_format" in handler.request_body and status(400, words or "bad request")(handler)
    )
    assert ask(model()) == ANSWER
    assert "response_format" not in server.received[-1].body


@pytest.mark.parametrize("number", [400, 422, 500])
def test_words_of_an_error_never_change_how_requests_are_sent(server: LlmServer, model: Build, number: int) -> None:
    text = "unsupported: temperature, response_format json_schema, use max_completion_tokens"
    asked = model()
    server.faults = [status(number, text), None, status(number, text)]
    for _ in range(3):
        with suppress(LlmAnswerError):
            ask(asked)
    plain = server.received[0].body
    assert all(set(request.body) == set(plain) and request.body["temperature"] == 0.0 for request in server.received)


@pytest.mark.parametrize(
    "fields",
    [
        {"error": {"message": "x", "param": "temperature", "code": "unsupported_value"}},
        {"detail": [{"loc": ["body", "temperature"], "msg": "Extra inputs are not permitted"}]},
    ],
    ids=["OpenAI", "FastAPI"],
)
def test_a_parameter_that_an_errors_fields_name_is_left_out(
    server: LlmServer, model: Build, fields: dict[str, Any]
) -> None:
    server.faults = [lambda handler: handler.send(422, json.dumps(fields).encode())]
    assert ask(model()) == ANSWER
    assert ["temperature" in request.body for request in server.received] == [True, False]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ([{"type": "text", "text": '{"m1": '}, {"type": "text", "text": '{"q1": "yes"}}'}], ANSWER),
        ('```json\n{"m1": {"q1": "yes"}}\n```', ANSWER),
        ({"m1": {"q1": "yes"}}, None),
        (17, None),
        ([17, None], None),
        (True, None),
        ("[" * 200_000, None),
        ('{"m1": ' * 200_000, None),
    ],
    ids=["parts", "fenced", "object", "number", "odd list", "true", "deep list", "deep object"],
)
def test_odd_content_is_read_or_malformed(
    server: LlmServer, model: Build, content: Any, expected: dict[str, Any] | None
) -> None:
    server.always = says(content)
    if expected is not None:
        assert ask(model()) == expected
        return
    error = error_of(model())
    assert isinstance(error, LlmAnswerError)
    assert error.reason == "malformed"


def test_a_truncated_answer_has_its_complete_members(server: LlmServer, model: Build) -> None:
    server.always = says('{"m1": {"q1": "yes"}, "m2": {"q1": "n', finish="length")
    error = error_of(model())
    assert isinstance(error, LlmAnswerError)
    assert (error.reason, error.usable) == ("cut", ANSWER)
    server.always = says(json.dumps(ANSWER), finish="length")
    assert ask(model()) == ANSWER


@pytest.mark.parametrize("usage", ["Infinity", "-Infinity", "NaN", "1e999", '"many"', "null", "[]", "{}"])
def test_odd_usage_costs_no_answer(server: LlmServer, model: Build, usage: str) -> None:
    content = json.dumps(json.dumps(ANSWER))
    server.always = body(
        f'{{"choices": [{{"message": {{"content": {content}}}, "finish_reason": "stop"}}],'
        f' "usage": {{"prompt_tokens": {usage}, "completion_tokens": {usage}}}}}'.encode()
    )
    asked = model()
    assert ask(asked) == ANSWER
    assert asked.spending.prompt_tokens >= len(MESSAGES[0]["content"])


@pytest.mark.parametrize("budget", [{"tokens": 0}, {"money": 0.0}])
def test_a_budget_of_zero_sends_nothing(server: LlmServer, model: Build, budget: dict[str, float]) -> None:
    error = error_of(model(**budget))
    assert isinstance(error, BudgetSpent)
    assert error.exit_code == 2
    assert error.what.startswith("the budget of 0 ")
    assert "raise `budget`" in error.fix
    assert server.received == []


def test_a_budget_is_never_passed_even_by_requests_at_one_time(server: LlmServer, model: Build) -> None:
    asked = model(concurrency=16, tokens=5_000)

    async def many() -> list[object]:
        async with asked.session() as session:
            jobs = [session.complete_json(MESSAGES, SCHEMA, most_tokens=50) for _ in range(100)]
            return await asyncio.gather(*jobs, return_exceptions=True)

    results = asyncio.run(many())
    done = [result for result in results if result == ANSWER]
    assert all(isinstance(result, BudgetSpent) for result in results if result != ANSWER)
    used = asked.spending.prompt_tokens + asked.spending.completion_tokens
    assert used == 110 * len(done) == 110 * len(server.received)
    assert 5_000 - 400 < used <= 5_000  # all but the bound of one more request


def test_the_money_budget_counts_both_prices(server: LlmServer, model: Build) -> None:
    asked = model(money=0.01, input_price=5.0, output_price=10.0)
    errors = []
    while not errors:
        try:
            ask(asked)
        except BudgetSpent as error:
            errors.append(error.what)
    assert errors[0].startswith("the budget of 0.01 of money is spent: ")
    assert len(server.received) > 5
    assert 0.005 < asked.spending.cost <= 0.01


def test_a_lost_answer_counts_at_its_bound(server: LlmServer, model: Build) -> None:
    server.faults = [cut]
    lost = model()
    ask(lost)
    whole = model()
    ask(whole)
    assert lost.metrics()["llm_lost"] == 1
    assert lost.spending.prompt_tokens > whole.spending.prompt_tokens + len(MESSAGES[0]["content"])


def test_where_the_server_counts_no_tokens_the_bound_is_recorded(server: LlmServer, model: Build) -> None:
    server.usage = False
    asked = model()
    ask(asked)
    assert asked.spending.prompt_tokens >= len(MESSAGES[0]["content"])
    assert asked.spending.completion_tokens == 50


INFINITE, NAN = float("inf"), float("nan")


@pytest.mark.parametrize("count", [-1_000_000, 0, INFINITE, -INFINITE, NAN, None, "many", True, [], 1e300])
def test_a_count_that_is_none_is_the_most_that_the_request_may_use(
    server: LlmServer, model: Build, count: object
) -> None:
    server.always = counts(prompt_tokens=count, completion_tokens=count, total_tokens=count)
    asked = model()
    assert ask(asked) == ANSWER
    assert asked.spending.prompt_tokens >= len(MESSAGES[0]["content"])
    assert asked.spending.completion_tokens == 50


def test_of_two_counts_of_the_server_the_greater_is_recorded(server: LlmServer, model: Build) -> None:
    server.always = counts(prompt_tokens=100, completion_tokens=10, total_tokens=900)  # reasoning is in the total alone
    asked = model()
    ask(asked)
    assert (asked.spending.prompt_tokens, asked.spending.completion_tokens) == (100, 800)


def test_a_count_above_the_bound_is_recorded(server: LlmServer, model: Build) -> None:
    server.always = counts(prompt_tokens=70_000, completion_tokens=9_000)
    asked = model()
    ask(asked)
    assert asked.spending.prompt_tokens + asked.spending.completion_tokens == 79_000


@pytest.mark.parametrize("number", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused_and_no_text_is_sent_there(server: LlmServer, model: Build, number: int) -> None:
    other = LlmServer().start()
    try:
        server.always = status(number, "moved", headers={"Location": f"{other.url}/chat/completions"})
        error = error_of(model())
    finally:
        other.stop()
    assert isinstance(error, LlmSettings)
    assert error.what == f"the LLM endpoint redirects to another address ({number}): no text is sent there"
    assert "`url`" in error.fix
    assert (len(server.received), other.received) == (1, [])


def test_a_compressed_answer_is_read(server: LlmServer, model: Build) -> None:
    choice = {"message": {"content": json.dumps(ANSWER)}, "finish_reason": "stop"}
    server.always = compressed(json.dumps({"choices": [choice]}).encode())
    assert ask(model()) == ANSWER


def test_an_answer_is_bounded_while_it_is_read(server: LlmServer, model: Build) -> None:
    import tracemalloc

    server.always = compressed(b" " * 200_000_000)  # 200 KB on the wire
    asked = model()
    tracemalloc.start()
    try:
        error = error_of(asked)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert isinstance(error, LlmAnswerError)
    assert error.what == "the answer has more than 4 MiB"
    assert peak < 50_000_000
    assert asked.spending.completion_tokens == 50  # it was billed


def test_an_answer_that_is_compressed_in_another_way_is_refused(server: LlmServer, model: Build) -> None:
    server.always = compressed(b"{}", encoding="br")
    assert "which was not asked for" in error_of(model()).what


def test_concurrency_is_limited(server: LlmServer, model: Build) -> None:
    def slowly(question: str, text: str) -> str:
        import time

        time.sleep(0.05)
        return "yes"

    server.answer = slowly
    asked = model(concurrency=3)

    async def many() -> None:
        async with asked.session() as session:
            await asyncio.gather(*(session.complete_json(MESSAGES, SCHEMA, most_tokens=5) for _ in range(12)))

    asyncio.run(many())
    assert server.most_in_flight == 3


def test_concurrency_adapts_to_a_server_that_takes_fewer_requests(server: LlmServer, model: Build) -> None:
    def crowded(handler: Any) -> bool:
        time.sleep(0.02)
        return handler.llm.in_flight > 4 and status(429, "slow down")(handler)

    server.always = crowded
    asked = model(concurrency=16, retry_policy=LlmRetryPolicy(tries=7, pause=0.01))

    async def many() -> list[dict[str, Any]]:
        async with asked.session() as session:
            return await asyncio.gather(*(session.complete_json(MESSAGES, SCHEMA, most_tokens=5) for _ in range(80)))

    assert asyncio.run(many()) == [ANSWER] * 80
    refused = len(server.received) - 80
    assert 0 < refused < 60
    later = server.received[len(server.received) // 2 :]
    assert len(later) - sum(request in server.answered for request in later) < 20


def test_no_personal_data_leaves_by_any_prompt(server: LlmServer, model: Build) -> None:
    asked = model()
    text = "call +7 916 123-45-67 or a.petrov@mail.example, card 4111 1111 1111 1111"
    content = json.dumps(QUESTION | {"messages": {"m1": text}}, ensure_ascii=False)
    asked.complete_json([{"role": "user", "content": content}], SCHEMA, most_tokens=5)
    assert server.received[0].texts == ["call [PHONE] or [EMAIL], card [CARD]"]
    assert asked.spending.masked == 3


@pytest.mark.parametrize("gap", ["\n", "\r\n", "\t", "  ", "   ", "*", "\u00a0", "\u2060"])
@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_a_number_that_an_escape_splits_does_not_leave(
    server: LlmServer, model: Build, gap: str, ensure_ascii: bool
) -> None:
    text = f"card {gap.join(['4276', '3800', '1234', '5679'])} and phone 8{gap}916{gap}123{gap}45{gap}67, thanks"
    content = json.dumps(QUESTION | {"messages": {"m1": text}}, ensure_ascii=ensure_ascii)
    model().complete_json([{"role": "user", "content": content}], SCHEMA, most_tokens=5)
    assert server.received[0].texts == ["card [CARD] and phone [PHONE], thanks"]


def test_a_number_in_a_document_does_not_leave(server: LlmServer, model: Build) -> None:
    content = json.dumps(QUESTION | {"more": {"4111111111111111": [4276380012345679, 12, None, True, 1.5]}})
    model().complete_json([{"role": "user", "content": content}], SCHEMA, most_tokens=5)
    assert server.received[0].asked["more"] == {"[CARD]": ["[CARD]", 12, None, True, 1.5]}


def test_latencies_are_quantiles_of_what_was_answered() -> None:
    spending = Spending(LlmEndpoint(url="http://x/v1", model="m"), budget=Budget())
    spending.seconds = [i / 100 for i in range(1, 101)]
    metrics = spending.metrics()
    assert (metrics["llm_latency_p50"], metrics["llm_latency_p95"]) == (0.5, 0.95)


def test_a_missing_llm_is_an_error_only_when_it_is_used() -> None:
    llm = Llm.from_services(Services())
    with pytest.raises(LlmSettings, match="no light LLM is configured"):
        llm.light()
    with pytest.raises(LlmSettings, match=r"no heavy LLM is configured\n  where: kommuna\.yaml: llm\.heavy"):
        llm.heavy()


def test_a_team_without_an_endpoint_is_told_where_to_be_named() -> None:
    llm = Llm.from_services(Services(workspace="fraud"))
    with pytest.raises(LlmSettings, match=r"no light LLM is configured for team fraud\n.*\n.*`llm\.light\.teams`"):
        llm.light()


def test_a_secret_in_an_endpoints_url_is_refused() -> None:
    for url in ("https://key:secret@llm.bank.example/v1", "https://llm.bank.example/v1?key=secret"):
        with pytest.raises(SpecError, match="a URL must not contain a key"):
            Llms.read({"light": {"url": url, "model": "m"}}, where="kommuna.yaml")
