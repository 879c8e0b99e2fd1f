"""`kommuna check-llm`: whether the platform's LLMs answer, and what they support."""

from __future__ import annotations

from dataclasses import asdict

import typer

from kommuna.cli.here import console, installation
from kommuna.cli.tables import AsJson, print_json, print_table
from kommuna.errors import EXIT_MISTAKE, KommunaError, LlmSettings

app = typer.Typer()


@app.command()
def check_llm(as_json: AsJson = False) -> None:
    """Ask each LLM of kommuna.yaml whether it answers and what it supports. Exits with 2 unless all can be used.

    A few short requests are sent to each, without any client's words.
    """
    from kommuna.steps.llm.capabilities import check_endpoint

    llms = installation().platform.llm
    endpoints = {role: endpoint for role in ("light", "heavy") if (endpoint := getattr(llms, role)) is not None}
    if not endpoints:
        raise LlmSettings("no LLM is configured", where="kommuna.yaml: llm", fix="docs/ask.md shows how to set one")
    found = {role: check_endpoint(endpoint) for role, endpoint in endpoints.items()}
    usable = all(not isinstance(one, KommunaError) and one.listed is not False for one in found.values())
    if as_json:
        print_json(
            {
                role: {"url": endpoints[role].url, "model": endpoints[role].model}
                | ({"error": str(one)} if isinstance(one, KommunaError) else asdict(one))
                for role, one in found.items()
            }
        )
    else:
        for role, one in found.items():
            rows = [("url", endpoints[role].url), ("model", endpoints[role].model)]
            if isinstance(one, KommunaError):
                rows.append(("error", str(one)))
            else:
                rows += [(name, _word(value)) for name, value in asdict(one).items()]
            print_table(console, [role, ""], rows)
    if not usable:
        raise typer.Exit(EXIT_MISTAKE)


def _word(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.2f}" if isinstance(value, float) else "unknown" if value is None else str(value)
