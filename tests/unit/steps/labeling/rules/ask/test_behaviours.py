"""Every behaviour of an LLM server: votes, cost, and what is written anywhere."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.rigs.llm_behaviours import BEHAVIOURS, KEY, ODD, Behaviour
from tests.rigs.llm_server import LlmServer
from tests.rigs.secrets_in import secrets_in

from kommuna.steps.labeling.rules.ask.votes import AskVotes

PERSONAL = ["+7 916 123-45-67", "4111 1111 1111 1111", "4276 3800 1234 5679", "a.petrov@mail.example"]
TEXTS: list[str | None] = [
    "my card 4111 1111 1111 1111 is lost",
    "a loan, call +7 916 123-45-67",
    f"{ODD} card",
    "write to a.petrov@mail.example about the loan",
    "hello",
    "where is my card 42763800 12345679, 4276 380012345679, 4276  3800   1234 * 5679, ４２７６３８００１２３４５６７９",
    "a card and a loan",
]
CARD = ["card", None, "card", None, None, "card", "card"]
LOAN = [None, "loan", None, "loan", None, None, "loan"]


def test_the_table_has_at_least_60_behaviours_by_different_names() -> None:
    names = [behaviour.name for behaviour in BEHAVIOURS]
    assert len(set(names)) == len(names) >= 60


@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda behaviour: behaviour.name)
def test_votes_are_right_the_cost_is_the_servers_and_nothing_secret_is_written(
    behaviour: Behaviour,
    ask: Callable[..., AskVotes],
    server: LlmServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("BANK_LLM_KEY", KEY)
    behaviour.set_up(server)
    endpoint = {"key_variable": "BANK_LLM_KEY", "concurrency": 2, "timeout_seconds": 0.4, "input_price": 1.0}
    if behaviour.error is not None:
        with pytest.raises(behaviour.error) as caught:
            ask(TEXTS, messages_per_request=3, max_failed=0.2, endpoint=endpoint)
        error = caught.value
        written = ["".join(traceback.format_exception(error)), str(error), repr(error), str(error.args)]
    else:
        result = ask(TEXTS, messages_per_request=3, max_failed=0.2, endpoint=endpoint)
        lost = {2} if behaviour.lost else set()
        assert result.votes["ask_card"].to_list() == [None if i in lost else tag for i, tag in enumerate(CARD)]
        assert result.votes["ask_loan"].to_list() == LOAN
        failed = {name: count for name, count in _failed(result.metrics).items() if count}
        assert failed == ({f"ask_{behaviour.lost}": 2.0} if behaviour.lost else {})
        assert_cost(result.metrics, server, exact=behaviour.exact)
        written = [json.dumps(result.metrics), str(result.votes.to_dicts())]
    captured = capsys.readouterr()
    written += [captured.out, captured.err]
    written += [path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file()]
    sent = [json.dumps(request.body, ensure_ascii=False) for request in server.received]
    assert secrets_in(written, [KEY]) == []
    assert secrets_in([*written, *sent], PERSONAL) == []
    pairs = [pair for pair in server.pairs if ODD not in pair[0]]
    assert len(pairs) == len(set(pairs))


def _failed(metrics: dict[str, float]) -> dict[str, float]:
    reasons = ("refused", "malformed", "cut", "contradictory", "too_long", "lost")
    return {f"ask_{reason}": metrics[f"ask_{reason}"] for reason in reasons}


def assert_cost(metrics: dict[str, float], server: LlmServer, *, exact: bool) -> None:
    told = [metrics["llm_tokens_in"], metrics["llm_tokens_out"]]
    assert metrics["llm_cost"] == pytest.approx(told[0] / 1e6)
    billed = [sum(prompt for prompt, _ in server.billed), sum(completion for _, completion in server.billed)]
    assert told == billed or (not exact and told[0] >= billed[0] and told[1] >= billed[1])
