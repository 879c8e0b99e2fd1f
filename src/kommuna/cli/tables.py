"""Prints tables for people and for programs. No cell is ever cropped.

On a terminal a table that is too wide is printed as one block per row. In a pipe each row is one line, so that `grep`
finds whole names. `--json` prints the values themselves.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

AsJson = Annotated[bool, typer.Option("--json", help="Print only JSON to stdout; messages go to stderr.")]
_NOTHING = "–"


def print_table(console: Console, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints rows under their columns. The first column names the row.

    Args:
        console: a terminal, or a console over a file or a pipe.
        columns: the names of the columns.
        rows: the values of each row, in the order of the columns.
    """
    cells = [[cell(value) for value in row] for row in rows]
    if not console.is_terminal:
        _print_lines(console, columns, cells)
        return
    table = Table(*(Column(Text(column), overflow="fold") for column in columns))
    for row in cells:
        table.add_row(*(Text(value) for value in row))
    unbounded = console.options.update(max_width=100_000)
    if console.measure(table, options=unbounded).maximum <= console.width:
        console.print(table, soft_wrap=False)
    else:
        _print_blocks(console, columns, cells)


def print_dearest(console: Console, steps: Iterable[tuple[str, float, float, int]], *, count: int = 3) -> None:
    """Prints the steps with the most processor time.

    Args:
        console: where to print.
        steps: each one's name, seconds, processor seconds, and peak memory in bytes.
        count: how many are shown.
    """
    rows = sorted(steps, key=lambda step: step[2], reverse=True)[:count]
    if rows:
        shown = [(name, f"{seconds:.1f}", f"{processor:.1f}", peak >> 20) for name, seconds, processor, peak in rows]
        print_table(console, ("dearest steps", "seconds", "processor seconds", "peak MiB"), shown)


def print_json(document: object) -> None:
    """Prints a document to stdout as JSON. NaN and infinity become null."""
    typer.echo(json.dumps(_plain(document), ensure_ascii=False, indent=1, default=str))


def records(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[dict[str, object]]:
    """Turns rows into JSON objects."""
    return [dict(zip(columns, row, strict=True)) for row in rows]


def cell(value: object) -> str:
    """Formats a value for people."""
    if value is None or value == "":
        return _NOTHING
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _print_lines(console: Console, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    lines = [columns, *([" ".join(value.split()) for value in row] for row in cells)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        text = "  ".join(value.ljust(width) for value, width in zip(line, widths, strict=True))
        console.print(Text(text.rstrip()), soft_wrap=True)


def _print_blocks(console: Console, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    for first, *rest in cells:
        console.print(Text(first, style="bold"), overflow="fold", soft_wrap=False)
        line = "  "
        for column, value in zip(columns[1:], rest, strict=True):
            part = f"{column} {value}"
            if value == _NOTHING:
                continue
            if len(line) > 2 and len(line) + len(part) > console.width:
                console.print(Text(line.rstrip()), overflow="fold", soft_wrap=False)
                line = "  "
            line += f"{part}   "
        console.print(Text(line.rstrip()), overflow="fold", soft_wrap=False)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def llm_bill(metrics: Mapping[str, float]) -> str:
    """Returns what LLMs were asked and what it cost, from a step's metrics."""
    tokens = metrics["llm_tokens_in"] + metrics["llm_tokens_out"]
    return f"LLM requests: {metrics['llm_requests']:.0f}, tokens: {tokens:,.0f}, cost: {metrics['llm_cost']:.2f}"
