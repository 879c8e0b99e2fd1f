"""`kommuna explain`: why a trained tagger gives a text its tag."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from kommuna.cli.here import console, installation, store
from kommuna.cli.tables import AsJson, print_json, print_table, records
from kommuna.errors import KommunaError, TeamMistake
from kommuna.spec.names import owner_of
from kommuna.spec.rules import RuleSet

if TYPE_CHECKING:
    from kommuna.steps.training.tagger import Tagger

app = typer.Typer()


@app.command()
def explain(
    key: Annotated[
        str,
        typer.Argument(
            help="A registered model with its team (support__topics), whose champion explains; or the key of the "
            "training step's manifest, or its first characters."
        ),
    ],
    text: Annotated[str, typer.Argument(help="The message.")],
    tag: Annotated[str | None, typer.Option(help="The tag to explain; the most probable one if absent.")] = None,
    rules: Annotated[Path | None, typer.Option(help="A rules file: also show which rules vote.")] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="Another column of the message for the rules: NAME=VALUE.")
    ] = None,
    team: Annotated[str | None, typer.Option(help="The team whose store is searched; all if absent.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show which words of a message support a tag or count against it, and which rules vote."""
    owner = owner_of(key)
    tagger = _champion(key, owner) if owner else _tagger(key, [team] if team else list(installation().platform.teams))
    found = tagger.explain(text, tag=tag)
    spoke = _rules_with_votes(rules, _message(text, column or [])) if rules else None
    if as_json:
        document = {"tag": found.tag, "confidence": found.confidence, "words": records(("word", "adds"), found.words)}
        print_json(document | ({} if spoke is None else {"rules": records(("rule", "says"), spoke)}))
        return
    console.print(Text.assemble((found.tag, "bold"), f" {found.confidence:.3f}"))
    print_table(console, ("word", "adds to the log-odds"), [(word, f"{value:+.2f}") for word, value in found.words])
    if spoke is not None:
        print_table(console, ("rule", "says"), spoke)


def _champion(name: str, team: str) -> Tagger:
    """Loads the tagger that is the champion of a registered model.

    Raises:
        TeamMistake: there is no champion, or no step of the team made it.
    """
    from kommuna.steps.registry.client import Registry
    from kommuna.steps.registry.model_version import CHAMPION, MANIFEST

    here = installation()
    here.require_team(team)
    version = Registry.from_services(here.services(team)).by_alias(name, CHAMPION)
    key = version.tags.get(MANIFEST, "") if version else ""
    if not key:
        raise TeamMistake(
            f"'{name}' has no champion that a step of the team made",
            fix=f"`kommuna models list {name}` shows its versions; explain another by the key of its training step",
        )
    return _tagger(key, [team])


def _tagger(key: str, teams: list[str]) -> Tagger:
    """Loads the tagger of a step.

    Raises:
        TeamMistake: no step, or several steps, with a tagger match the key.
    """
    from kommuna.steps.training.tagger import Tagger

    at = [
        (name, m) for name in teams for m in store(name).manifests() if m.key.startswith(key) and "model" in m.outputs
    ]
    if len(at) != 1:
        raise TeamMistake(
            f"{len(at) or 'no'} manifests with a model begin with '{key}'",
            fix="see the XCom or the log of the training task for the key",
        )
    name, manifest = at[0]
    with tempfile.TemporaryDirectory(prefix="kommuna-explain-") as folder:
        return Tagger.load(store(name).fetch(manifest.outputs["model"], Path(folder)))


def _message(text: str, columns: list[str]) -> dict[str, str]:
    """Returns the message as a row.

    Raises:
        TeamMistake: a column is not NAME=VALUE.
    """
    row = {"id": "message", "text": text}
    for column in columns:
        name, equals, value = column.partition("=")
        if not equals or name in row:
            raise TeamMistake(f"--column {column} is not NAME=VALUE, or repeats a column", fix="--column channel=app")
        row[name] = value
    return row


def _rules_with_votes(path: Path, row: dict[str, str]) -> list[tuple[str, str]]:
    """Returns the vote of each rule that votes on the row; for a rule that cannot be applied, the reason."""
    import polars as pl

    from kommuna.steps.labeling.apply import apply_rules
    from kommuna.steps.training.explain import rules_with_votes

    sys.path.insert(0, str(path.resolve().parent))
    message, rules = pl.LazyFrame([row]), RuleSet.from_yaml(path)
    votes: list[tuple[str, str]] = []
    skipped: list[tuple[str, str]] = []
    for rule in rules.rules:
        if rule.reads == "answers":
            skipped.append((rule.name, "not applied: it asks an LLM"))
            continue
        alone = rules.model_copy(update={"rules": (rule,), "otherwise": None})
        try:
            votes += rules_with_votes(apply_rules(message, alone).votes.collect(), "id")[0]
        except KommunaError as error:
            skipped.append((rule.name, f"not applied: {error.what}"))
    if not votes and rules.otherwise is not None:
        votes.append(("otherwise", rules.otherwise))
    return votes + skipped
