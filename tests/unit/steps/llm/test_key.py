"""The API key: it is checked when it is read, and no message shows it."""

from __future__ import annotations

import base64
import traceback
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.rigs.llm_server import LlmServer, says, status

from kommuna.errors import KommunaError, LlmSettings
from kommuna.steps.llm.client import Model
from kommuna.steps.llm.key import ApiKey

KEY = "sk-Very+Secret/0123456789abcdef=="
FORMS = {
    "itself": KEY,
    "lower case": KEY.lower(),
    "upper case": KEY.upper(),
    "URL-encoded": quote(KEY, safe=""),
    "encoded twice": quote(quote(KEY, safe=""), safe=""),
    "base64": base64.b64encode(KEY.encode()).decode(),
    "base64 of a header": base64.b64encode(f"Bearer {KEY}".encode()).decode(),
    "URL-safe base64": base64.urlsafe_b64encode(f"x:{KEY}".encode()).decode(),
    "hexadecimal": KEY.encode().hex(),
    "spaced": " ".join(KEY),
    "in lines": "\n".join(KEY[i : i + 4] for i in range(0, len(KEY), 4)),
    "cut": KEY[:-4],
    "without its head": KEY[6:],
}


def shown(text: str) -> int:
    """Returns the length of the longest part of the key in a text, by letters and digits."""
    plain = "".join(char for char in text.lower() if char.isalnum())
    key = "".join(char for char in KEY.lower() if char.isalnum())
    parts = {key[i:j] for i in range(len(key)) for j in range(i + 1, len(key) + 1)}
    return max((len(part) for part in parts if part in plain), default=0)


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_no_form_of_the_key_is_shown(form: str) -> None:
    text = f"wrong key: {form}, ask support"
    hidden = ApiKey(KEY).hidden(text)
    assert hidden.startswith("wrong key: ")
    assert hidden.endswith(", ask support")
    assert "***" in hidden
    assert len(hidden) <= len("wrong key: , ask support") + 24, hidden
    assert shown(hidden) < 6


@given(st.text(), st.text(), st.integers(0, 20), st.integers(8, 33))
def test_a_part_of_the_key_is_hidden_among_any_text(before: str, after: str, start: int, length: int) -> None:
    hidden = ApiKey(KEY).hidden(f"{before} {KEY[start : start + length]} {after}")
    assert KEY[start : start + length] not in hidden


def test_other_text_is_unchanged() -> None:
    text = "429: slow down, the quota of the hour is used. See https://llm.bank.example/limits?id=0123"
    assert ApiKey(KEY).hidden(text) == text
    assert ApiKey("").hidden(text) == text
    assert KEY not in repr(ApiKey(KEY))


@pytest.mark.parametrize(
    "key", ["sk-very-secret\n", "sk-very\tsecret", "sk very secret", "sk-véry-secret", "\r\nsk-very"]
)
def test_a_key_that_no_header_can_hold_is_refused_without_showing_it(
    server: LlmServer, model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("BANK_LLM_KEY", key)
    with pytest.raises(LlmSettings, match="the LLM's API key in BANK_LLM_KEY cannot be sent") as caught:
        model(key_variable="BANK_LLM_KEY").complete_json([{"role": "user", "content": "x"}], {}, most_tokens=5)
    assert "very" not in "".join(traceback.format_exception(caught.value))
    assert server.received == []


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("number", [400, 401, 404, 500])
def test_a_server_that_repeats_the_key_shows_it_nowhere(
    server: LlmServer,
    model: Callable[..., Model],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    form: str,
    number: int,
) -> None:
    monkeypatch.setenv("BANK_LLM_KEY", KEY)
    server.always = status(number, "x" * (299 - len(form) // 2) + " " + form)  # a message cut to 300 cuts the key
    with pytest.raises(KommunaError) as caught:
        model(key_variable="BANK_LLM_KEY").complete_json([{"role": "user", "content": "x"}], {}, most_tokens=5)
    error, output = caught.value, capsys.readouterr()
    texts = [str(error), repr(error), output.out, output.err, *traceback.format_exception(error)]
    assert max(map(shown, texts)) < 6
    assert error.__context__ is None


def test_a_refusal_of_the_model_that_repeats_the_key_does_not_show_it(
    server: LlmServer, model: Callable[..., Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BANK_LLM_KEY", KEY)
    server.always = says(None, refusal=f"I was given {KEY}")
    with pytest.raises(KommunaError) as caught:
        model(key_variable="BANK_LLM_KEY").complete_json([{"role": "user", "content": "x"}], {}, most_tokens=5)
    assert shown(str(caught.value)) < 6
