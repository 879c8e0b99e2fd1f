"""Rules as people see them: the condition, and what of a text a rule found."""

from typing import Any

import pytest

from kommuna.spec.rules import Rule
from kommuna.steps.labeling.report.rule_text import condition, highlighted


def _rule(**condition: Any) -> Rule:
    return Rule(name="lost", tag="card", **condition)


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"any": ("lost", "не вижу")}, "any of: lost, не вижу"),
        ({"any": ("карта",), "stem": "russian"}, "any word form (russian) of: карта"),
        ({"regex": r"\bcard\b"}, r"regex: \bcard\b"),
        ({"sql": "amount > 5"}, "sql: amount > 5"),
    ],
)
def test_a_rules_condition_is_told_in_words(rule: dict[str, Any], said: str) -> None:
    assert condition(_rule(**rule)) == said


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
def test_what_a_rule_found_is_marked_and_the_rest_is_text(rule: dict[str, Any], text: str, marked: str) -> None:
    assert str(highlighted(_rule(**rule), text)) == marked
