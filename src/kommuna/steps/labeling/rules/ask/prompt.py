"""The prompt of `ask` rules: one request has several messages and questions, and a JSON schema for the answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

import polars as pl

PromptLanguage = Literal["english", "russian"]

YES, NO, UNKNOWN = 1, 0, -1

ANSWERS = {"yes": YES, "no": NO, "unknown": UNKNOWN}

TOKENS_PER_ANSWER = 16  # `"q12": "unknown",` with white space; it limits the tokens of a response


@dataclass(frozen=True)
class Prompt:
    """The instructions of a request, in the language of the messages: a file of `prompts/`.

    Attributes:
        language: the file's name.
        instructions: what the file says.
    """

    language: PromptLanguage
    instructions: str

    @property
    def version(self) -> str:
        """A digest of the instructions. It is part of the cache: answers to another text are not found."""
        return hashlib.sha256(self.instructions.encode()).hexdigest()[:12]

    def messages(self, texts: Sequence[str], questions: Sequence[str]) -> list[dict[str, str]]:
        """Returns the chat messages of one request.

        Args:
            texts: masked messages of clients.
            questions: the questions about each of them.
        """
        content = {
            "questions": {f"q{i}": question for i, question in enumerate(questions, 1)},
            "messages": {f"m{i}": text for i, text in enumerate(texts, 1)},
        }
        return [
            {"role": "system", "content": self.instructions},
            {"role": "user", "content": json.dumps(content, ensure_ascii=False, indent=1)},
        ]


def prompt_in(language: PromptLanguage) -> Prompt:
    """Returns the prompt in a language."""
    file = resources.files(__package__) / "prompts" / f"{language}.txt"
    return Prompt(language, file.read_text(encoding="utf-8").rstrip("\n"))


def prompt_for(texts: pl.Series) -> Prompt:
    """Returns the prompt for some messages: the Russian one if half of their letters or more are Cyrillic.

    Args:
        texts: the first messages, as many as tell their language; nulls are left out.
    """
    letters, cyrillic = (texts.str.count_matches(pattern).sum() for pattern in (r"\p{L}", r"\p{Cyrillic}"))
    return prompt_in("russian" if letters and cyrillic >= letters / 2 else "english")


def answer_schema(texts: int, questions: int) -> dict[str, Any]:
    """Returns the JSON schema of a response: one object per message, one word per question.

    Args:
        texts: the number of messages.
        questions: the number of questions.
    """
    names = [f"q{i}" for i in range(1, questions + 1)]
    return {
        "type": "object",
        "properties": {f"m{i}": {"$ref": "#/$defs/answers"} for i in range(1, texts + 1)},
        "required": [f"m{i}" for i in range(1, texts + 1)],
        "additionalProperties": False,
        "$defs": {
            "answers": {
                "type": "object",
                "properties": {name: {"type": "string", "enum": list(ANSWERS)} for name in names},
                "required": names,
                "additionalProperties": False,
            }
        },
    }


def most_tokens(texts: int, questions: int) -> int:
    """Returns the largest number of tokens of a response.

    Args:
        texts: the number of messages.
        questions: the number of questions.
    """
    return 32 + texts * (8 + questions * TOKENS_PER_ANSWER)


def parsed_answers(response: dict[str, Any], texts: int, questions: int) -> dict[tuple[int, int], int]:
    """Parses the usable part of a response.

    Args:
        response: the JSON object, see `answer_schema`.
        texts: the number of messages.
        questions: the number of questions.

    Returns:
        `YES`, `NO` or `UNKNOWN` by (message, question), both numbered from 0; missing answers and unknown words are
        left out.
    """
    found: dict[tuple[int, int], int] = {}
    for text in range(texts):
        answers = response.get(f"m{text + 1}")
        if not isinstance(answers, dict):
            continue
        for question in range(questions):
            word = answers.get(f"q{question + 1}")
            if isinstance(word, str) and word.strip().lower() in ANSWERS:
                found[text, question] = ANSWERS[word.strip().lower()]
    return found
