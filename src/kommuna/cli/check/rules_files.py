"""What `kommuna check` says of a bundle's rules files."""

from __future__ import annotations

from pathlib import Path

from kommuna.cli.check.finding import Collector, line_of
from kommuna.errors import KommunaError
from kommuna.runtime.binding import find_function
from kommuna.spec.rules import RuleSet


class RulesFiles:
    """Reads and judges rules files, each once."""

    def __init__(self, folder: Path, found: Collector) -> None:
        self.folder = folder
        self._found = found
        self._read: dict[Path, RuleSet | None] = {}

    def read(self, file: Path) -> RuleSet | None:
        """Reads a rules file; None where it is not usable, which is then a finding."""
        if file in self._read:
            return self._read[file]
        self._read[file] = None
        try:
            rules = RuleSet.from_yaml(file)
        except KommunaError as error:
            line = error.where.rpartition(":")[2]
            self._found.add(file, int(line) if line.isdigit() else 1, error.what, error.mend or "mend the line")
            return None
        text = file.read_text(encoding="utf-8")
        for rule in rules.rules:
            if rule.python:
                try:
                    find_function(rule.python, bundle=self.folder)
                except KommunaError as error:
                    self._found.add(file, line_of(text, rule.name), f"rule '{rule.name}': {error.what}", error.mend)
        self._read[file] = rules
        return rules


def sql_columns(sql: str | None) -> list[str]:
    """Columns that a rule's condition names."""
    if sql is None:
        return []
    import polars as pl

    try:
        return pl.sql_expr(sql).meta.root_names()
    except Exception:  # apply_rules says what is wrong with it
        return []
