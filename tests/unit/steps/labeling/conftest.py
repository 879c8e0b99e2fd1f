"""Small messages and rules for the labeling steps."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest

from kommuna.spec.rules import RuleSet


@pytest.fixture(scope="session")
def rule_set() -> Callable[..., RuleSet]:
    """Builds a rule set of plain data: `rule_set({"name": ..., ...}, ..., tags=[...])`."""

    def build(
        *rules: dict[str, object],
        tags: list[str] | None = None,
        multi_label: bool = False,
        otherwise: str | None = None,
    ) -> RuleSet:
        known = tags or sorted({str(rule["tag"]) for rule in rules if rule.get("tag")})
        plain = {"tags": known, "rules": list(rules), "multi_label": multi_label, "otherwise": otherwise}
        return RuleSet.read(plain, where="test")

    return build


@pytest.fixture
def messages() -> pl.LazyFrame:
    return pl.LazyFrame(
        {
            "id": ["a", "b", "c", "d", "e"],
            "text": ["Where is my card?", "I want a loan", "My CARD and a Loan", None, "hello"],
            "amount": [10.0, 2000.0, None, 5000.0, 0.0],
            "channel": ["chat", "mail", "chat", "mail", None],
        }
    )
