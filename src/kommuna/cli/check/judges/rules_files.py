"""Checks the rules files of a bundle."""

from __future__ import annotations

from pathlib import Path

from kommuna.cli.check.finding import Collector, line_of
from kommuna.errors import KommunaError
from kommuna.runtime.binding import find_function
from kommuna.spec.rules import Rule, RuleSet


class RulesFiles:
    """Reads and checks rules files, each once."""

    def __init__(self, folder: Path, found: Collector) -> None:
        self.folder = folder
        self._found = found
        self._read: dict[Path, RuleSet | None] = {}
        self._broken: set[tuple[Path, str]] = set()

    def read(self, file: Path) -> RuleSet | None:
        """Reads a rules file; returns None and adds a finding if it is invalid."""
        if file in self._read:
            return self._read[file]
        self._read[file] = None
        try:
            rules = RuleSet.from_yaml(file)
        except KommunaError as error:
            line = error.where.rpartition(":")[2]
            self._found.add(file, int(line) if line.isdigit() else 1, error.what, error.fix or "fix the line")
            return None
        text = file.read_text(encoding="utf-8")
        for rule in rules.rules:
            for what, fix in self._faults(rule):
                self._broken.add((file, rule.name))
                self._found.add(file, line_of(text, rule.name), f"rule '{rule.name}': {what}", fix)
        self._read[file] = rules
        return rules

    def conditions(self, file: Path) -> list[Rule]:
        """Returns the valid SQL and Python rules of a file, which can be tried on a table."""
        rules = self.read(file)
        kinds = [rule for rule in (rules.rules if rules else ()) if rule.reads == "columns"]
        return [rule for rule in kinds if (file, rule.name) not in self._broken]

    def columns(self, rule: Rule) -> list[str]:
        """Columns that a rule's condition names, as far as they are known without a table; none of a broken one."""
        from kommuna.steps.labeling.rules.expressions import parsed

        try:
            expression = parsed(rule)
        except KommunaError:
            return []
        return [] if expression is None else expression.meta.root_names()

    def _faults(self, rule: Rule) -> list[tuple[str, str]]:
        """What is wrong with a rule's function or condition, whatever table it meets."""
        from kommuna.steps.labeling.rules.expressions import parsed

        try:
            for function in rule.functions:
                find_function(function, bundle=self.folder)
            parsed(rule)
        except KommunaError as error:
            return [(error.what, error.fix or "fix it")]
        return []
