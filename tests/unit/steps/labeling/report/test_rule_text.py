"""Rules as shown to people: the condition in words, and the marked matches in a text."""

from typing import Any

import pytest

from kommuna.spec.rules import Rule
from kommuna.steps.labeling.report.rule_text import highlighted


def _rule(**condition: Any) -> Rule:
    return Rule(name="lost", tag="card", **condition)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"any": ("lost", "не вижу")}, "any of: lost, не вижу"),
        ({"any": ("карта",), "stem": "russian"}, "any word form (russian) of: карта"),
        ({"regex": r"\bcard\b"}, r"regex: \bcard\b"),
        ({"sql": "amount > 5"}, "sql: amount > 5"),
    ],
)
def test_the_condition_of_a_rule_is_in_words(rule: dict[str, Any], words: str) -> None:
    assert _rule(**rule).in_words == words


@pytest.mark.parametrize(
    ("rule", "text", "marked"),
    [
        ({"any": ("lost",)}, "I LOST it, lost!", "I <mark>LOST</mark> it, <mark>lost</mark>!"),
        ({"any": ("lost",)}, "losty", "losty"),
        ({"any": ("не вижу",)}, "я не вижу карту", "я <mark>не вижу</mark> карту"),
        ({"any": ("карта",), "stem": "russian"}, "нет карты", "нет <mark>карты</mark>"),
        ({"any": ("еще",)}, "Ещё раз", "<mark>Ещё</mark> раз"),
        ({"regex": "ca.d"}, "my Card, cards", "my <mark>Card</mark>, <mark>card</mark>s"),
        ({"any": ("my card", "card lost")}, "my card lost", "<mark>my card lost</mark>"),
        ({"any": ("b",)}, "<b>b</b>", "&lt;<mark>b</mark>&gt;<mark>b</mark>&lt;/<mark>b</mark>&gt;"),
        ({"sql": "amount > 5"}, "a & b", "a &amp; b"),
    ],
)
def test_matches_are_marked_and_the_text_is_escaped(rule: dict[str, Any], text: str, marked: str) -> None:
    assert str(highlighted(_rule(**rule), text)) == marked
