"""The confidence of answers: the probability that the model gives to each word of its answer."""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from itertools import accumulate

from kommuna.steps.labeling.rules.ask.prompt import ANSWERS

# A message's name, or a question's name with its answer. Answers are words of a schema: no client's text is in them.
_MEMBER = re.compile(r'"m(?P<text>\d{1,4})"\s*:\s*\{|"q(?P<question>\d{1,4})"\s*:\s*"\s*(?P<word>\w+)\s*"')


def confidences(
    tokens: Iterable[tuple[str, float]], found: Mapping[tuple[int, int], int]
) -> dict[tuple[int, int], float]:
    """Returns the probability, 0 to 1, that the model gives to each answer, by (message, question).

    It is the product of the probabilities of the tokens that spell the word. It says how sure the model is, not how
    often it is right.

    >>> tokens = [('{"m1": {"q1": "', -0.0), ("y", -0.5), ("es", -0.2), ('"}}', -0.0)]
    >>> round(confidences(tokens, {(0, 0): 1})[0, 0], 2)
    0.5

    Args:
        tokens: the text and the log probability of each token of the answer.
        found: the parsed answers; an answer that is not found in the tokens is left out.
    """
    texts, logprobs = zip(*tokens, strict=True)
    ends = list(accumulate(map(len, texts)))
    sums = [0.0, *accumulate(logprobs)]
    sure: dict[tuple[int, int], float] = {}
    message = -1
    for member in _MEMBER.finditer("".join(texts)):
        if member["text"]:
            message = int(member["text"]) - 1
            continue
        pair = message, int(member["question"]) - 1
        if pair in found and ANSWERS.get(member["word"].lower()) == found[pair]:
            first, last = bisect_right(ends, member.start("word")), bisect_right(ends, member.end("word") - 1)
            sure[pair] = math.exp(sums[last + 1] - sums[first])
    return sure
