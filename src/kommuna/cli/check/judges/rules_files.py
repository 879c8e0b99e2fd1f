"""Checks the rules files of a bundle."""

from __future__ import annotations

from pathlib import Path

from kommuna.cli.check.finding import Collector, line_of
from kommuna.errors import KommunaError
from kommuna.runtime.binding import find_function
from kommuna.spec.rules import Rule, RuleSet, SqlRule


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
        """Columns that a SQL rule's condition names; none of a condition that is broken."""
        import polars as pl

        from kommuna.steps.etl.sql.dialect import POLARS_ERRORS, standard_sql

        try:
            return pl.sql_expr(standard_sql(rule.sql)).meta.root_names() if isinstance(rule, SqlRule) else []
        except (KommunaError, *POLARS_ERRORS):
            return []

    def _faults(self, rule: Rule) -> list[tuple[str, str]]:
        """What is wrong with a rule's function or SQL, whatever table it meets."""
        import polars as pl

        from kommuna.steps.etl.sql.dialect import POLARS_ERRORS, standard_sql

        try:
            for function in rule.functions:
                find_function(function, bundle=self.folder)
            if isinstance(rule, SqlRule):
                pl.sql_expr(standard_sql(rule.sql))
        except KommunaError as error:
            return [(error.what, error.fix or "fix it")]
        except POLARS_ERRORS as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            return [(f"the SQL cannot be read: {first}", "write one condition over the row's columns: amount > 100")]
        return []
