"""What the questions of `ask` rules are expected to cost, before the first of them is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from kommuna.steps.labeling.rules.ask.prompt import Prompt
from kommuna.steps.labeling.rules.ask.requests import QUESTIONS_PER_REQUEST
from kommuna.steps.llm.spending import Tokens

_BYTES_PER_TOKEN = 4  # of UTF-8: English has four letters of one byte in a token, Russian two or three of two bytes
_TOKENS_PER_ANSWER = 8  # `"q12": "unknown",`; most answers are shorter
_TOKENS_PER_MESSAGE = 6  # the braces and the name of a message in an answer


def expected_tokens(
    pending: Mapping[bytes, tuple[int, ...]],
    sizes: Mapping[bytes, int],
    questions: Sequence[str],
    prompt: Prompt,
    *,
    messages_per_request: int,
) -> tuple[int, Tokens]:
    """Returns the expected number of requests, and their tokens.

    Args:
        pending: the unanswered questions, by position, by digest of each distinct masked text.
        sizes: bytes of each text, by digest.
        questions: all questions.
        prompt: the instructions.
        messages_per_request: the largest number of messages in a request.
    """
    texts, bytes_of_texts = Counter(pending.values()), Counter[tuple[int, ...]]()
    for digest, asked in pending.items():
        bytes_of_texts[asked] += sizes[digest]
    requests = sent = answered = 0
    for asked, count in texts.items():
        for start in range(0, len(asked), QUESTIONS_PER_REQUEST):
            part = asked[start : start + QUESTIONS_PER_REQUEST]
            number = -(-count // messages_per_request)
            around = sum(len(m["content"].encode()) for m in prompt.messages([], [questions[i] for i in part]))
            requests += number
            sent += number * around + bytes_of_texts[asked] + count * 12  # `  "m1": "…",`
            answered += count * (_TOKENS_PER_MESSAGE + len(part) * _TOKENS_PER_ANSWER)
    return requests, Tokens(-(-sent // _BYTES_PER_TOKEN), answered)
