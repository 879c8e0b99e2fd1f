"""`kommuna rules test`: how rules do on a file of messages, without Airflow."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from kommuna.cli.here import console
from kommuna.cli.refine import refine
from kommuna.errors import MissingColumn, SchemaDrift, nearest
from kommuna.spec.rules import RuleSet

if TYPE_CHECKING:
    import polars as pl

app = typer.Typer(help="Labeling rules.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Labeling rules."""


app.command()(refine)


@app.command()
def test(
    rules: Annotated[Path, typer.Argument(help="The rules file.")],
    messages: Annotated[Path, typer.Argument(help="CSV, NDJSON or Parquet.")],
    labels: Annotated[
        Path | None, typer.Option(help="A file with key and true tag: of some messages, or, with texts, of others.")
    ] = None,
    key: Annotated[str, typer.Option(help="The column that names a row.")] = "id",
    text: Annotated[str, typer.Option(help="The column with the message.")] = "text",
    label: Annotated[str, typer.Option(help="The labels' column with the tag.")] = "tag",
    group: Annotated[str | None, typer.Option(help="Only the rules of this group.")] = None,
    report: Annotated[Path | None, typer.Option(help="Where to write the HTML report.")] = None,
) -> None:
    """Show each rule's coverage, overlap, conflict and, with labels, accuracy and worth; the worst rule first."""
    from kommuna.steps.labeling.apply import apply_rules
    from kommuna.steps.labeling.rule_report import rule_report

    rule_set = RuleSet.from_yaml(rules)
    if group is not None:
        rule_set = rule_set.only(group)
    sys.path.insert(0, str(rules.resolve().parent))
    rows = scanned(messages, key, text)
    votes = apply_rules(rows, rule_set, key=key, text=text).votes
    dev = scanned_labels(labels, key, label=label, several_tags=rule_set.several_tags) if labels else None
    dev_votes = None
    if dev is not None:  # labels with texts are rows of their own; labels without are of the messages' rows
        own_texts = text in dev.collect_schema().names()
        dev_votes = apply_rules(dev, rule_set, key=key, text=text).votes if own_texts else votes
        if not own_texts:
            kinds = [table.collect_schema()[key] for table in (dev, rows)]
            if kinds[0] != kinds[1]:
                raise SchemaDrift(
                    f"column '{key}': the labels have {kinds[0]}, the messages {kinds[1]}",
                    mend="give both the same type",
                )
            dev = dev.join(rows.select(key, text), on=key, how="left", maintain_order="left")
    made = rule_report(votes, rule_set, None, dev_votes, dev, key=key, text=text, label=label)
    known = [column for column in made.table.columns if made.table[column].null_count() < made.table.height]
    table = Table(*known)
    for row in made.table.select(known).iter_rows():
        table.add_row(*(_cell(value) for value in row))
    console.print(table)
    if rule_set.otherwise is not None:
        left = made.metrics["left_to_default"]
        console.print(
            f"No rule votes on {left:.1%} of rows: they have the default tag {rule_set.otherwise}",
            highlight=False, markup=False,
        )  # fmt: skip
    if report:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(made.report.html, encoding="utf-8")
        console.print(f"The report is {report}", highlight=False)


def scanned(path: Path, *columns: str) -> pl.LazyFrame:
    """A table by its file's ending.

    Raises:
        DataError: the file is missing, or of another kind.
        MissingColumn: it lacks a column.
    """
    from kommuna.steps.frames import scan_file

    table = scan_file(path)
    _require(table, path, *columns)
    return table


def scanned_labels(path: Path, *columns: str, label: str, several_tags: bool) -> pl.LazyFrame:
    """A table of labeled rows; `tags` stands in for the default label `tag` where rows may have several."""
    from kommuna.steps.labeled_rows import label_column

    table = scanned(path, *columns)
    _require(table, path, label_column(table, label, several_tags=several_tags))
    return table


def _require(table: pl.LazyFrame, path: Path, *columns: str) -> None:
    known = table.collect_schema().names()
    for column in columns:
        if column not in known:
            raise MissingColumn(
                f"{path.name} has no column '{column}'{nearest(column, known)}", mend=f"it has: {', '.join(known)}"
            )


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
