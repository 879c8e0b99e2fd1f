"""Writes refined rules as a YAML file for people: grouped by tag, with the origin and figures of each rule."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import yaml

from kommuna.spec.rules import Rule, RuleSet
from kommuna.steps.labeling.refine.rounds import WrittenRule

_WIDTH = 116


@dataclass(frozen=True)
class RulesFile:
    """The YAML text of a `RuleSet`, which other steps accept as their rules."""

    text: str
    suffix: ClassVar[str] = ".yaml"

    def save(self, path: Path) -> None:
        """Writes the text to a file."""
        path.write_text(self.text, encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads the text of a file."""
        return cls(path.read_text(encoding="utf-8"))

    @property
    def rules(self) -> RuleSet:
        """Parses the file."""
        return RuleSet.read(yaml.safe_load(self.text), where="the refined rules")


def rules_file(
    rule_set: RuleSet, written: Sequence[WrittenRule], coverage: Mapping[str, float], *, about: Sequence[str]
) -> RulesFile:
    """Writes the file: for each tag its rules, those that the loop started from first.

    Args:
        rule_set: all rules.
        written: the rules that the loop wrote, with their origins and figures.
        coverage: the share of messages on which each rule votes, by its name.
        about: comment lines for the head of the file.
    """
    known = {one.rule.name: one for one in written}
    head = {"tags": list(rule_set.tags), "multi_label": rule_set.multi_label}
    if rule_set.otherwise is not None:
        head["otherwise"] = rule_set.otherwise
    lines = [*(f"# {line}" for line in about), _yaml(head, flow=False).rstrip(), "rules:"]
    for tag in (None, *rule_set.tags):
        rules = [rule for rule in rule_set.rules if rule.tag == tag]
        if not rules:
            continue
        lines += ["", f"  # ── {tag or 'tags by name'} " + "─" * max(4, 60 - len(tag or "tags by name"))]
        for rule in sorted(rules, key=lambda rule: rule.name in known):  # a stable sort keeps the order otherwise
            lines += [f"  # {line}" for line in _comment(known.get(rule.name), coverage[rule.name])]
            lines += _item(rule)
    return RulesFile("\n".join(lines) + "\n")


def _comment(written: WrittenRule | None, coverage: float) -> list[str]:
    seen = f"votes on {coverage:.2%} of messages"
    if written is None:
        return [f"given; {seen}"]
    figures = (
        f"right {written.right} of {written.cast} on dev rows that it was not written from (95 %: at least "
        f"{written.low:.0%}); {seen}; F1 +{written.gain:.4f}"
    )
    origin = " ".join(written.origin.split())
    return [*textwrap.wrap(f"round {written.round}, {origin}", _WIDTH), figures]


def _item(rule: Rule) -> list[str]:
    """Returns the YAML lines of a rule: one line per key, lists in brackets."""
    plain = rule.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    plain = dict(sorted(plain.items(), key=lambda item: item[0] in ("group", "against")))  # after the condition
    keys = [line for key, value in plain.items() for line in _yaml({key: value}, flow=_flow(value)).splitlines()]
    return [f"  {'- ' if i == 0 else '  '}{line}" for i, line in enumerate(keys)]


def _flow(value: Any) -> bool | None:
    return None if isinstance(value, list) else False


def _yaml(data: Any, *, flow: bool | None) -> str:
    return str(yaml.safe_dump(data, allow_unicode=True, sort_keys=False, width=_WIDTH, default_flow_style=flow))
