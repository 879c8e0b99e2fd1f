"""`kommuna llm`: what the teams use of LLMs, and what their budgets leave."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated

import typer

from kommuna.cli.here import console, installation
from kommuna.cli.tables import AsJson, print_json, print_table, records
from kommuna.errors import SpecError
from kommuna.steps.llm.allowance import Left
from kommuna.steps.llm.ledger import billed_in, total

app = typer.Typer()

_COLUMNS = ("team", "endpoints", "requests", "tokens", "tokens_left", "money", "money_left")


@app.command()
def llm(
    team: Annotated[str, typer.Option(help="Only this team; all if absent.")] = "",
    month: Annotated[str, typer.Option(help="Another month (UTC): 2026-11.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show what each team's steps were billed by LLMs in a month, and what its budget leaves."""
    here = installation()
    month = month or f"{datetime.now(UTC):%Y-%m}"
    if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", month):
        raise SpecError(f"'{month}' is not a month", fix="write the year and the month: 2026-11")
    if team:
        here.require_team(team)
    rows = []
    for name in [team] if team else sorted(here.platform.teams):
        used = total(entry.billed for entry in billed_in(here.store().shared(name), month))
        left = Left(month, here.platform.teams[name].llm.month, used)
        endpoints = ", ".join(here.platform.llm.of(name).endpoints)
        rows.append((name, endpoints, used.requests, used.tokens, left.tokens, used.money, left.money))
    if as_json:
        print_json({"month": month, "teams": records(_COLUMNS, rows)})
        return
    console.print(f"{month} (UTC); left: – is without a limit")
    print_table(console, [column.replace("_", " ") for column in _COLUMNS], rows)
