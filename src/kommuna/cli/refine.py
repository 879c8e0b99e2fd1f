"""`kommuna rules refine`: writes better rules from message files, without Airflow."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from kommuna.cli.here import console, installation, message_console
from kommuna.cli.scan import scanned, scanned_labels, with_one_key_type
from kommuna.cli.tables import AsJson, llm_bill, print_json, print_table
from kommuna.errors import DataError, SpecError
from kommuna.spec.rules import RuleSet
from kommuna.spec.versions import VERSIONS

_STEP = "kommuna.steps:refine_rules"


def refine(
    messages: Annotated[Path, typer.Argument(help="Unlabeled messages: CSV, NDJSON or Parquet.")],
    dev: Annotated[Path, typer.Argument(help="Labeled messages, to write and evaluate rules with.")],
    out: Annotated[Path, typer.Option(help="Where to write the rules.")] = Path("refined.yaml"),
    rules: Annotated[
        Path | None, typer.Option(help="Rules to start from; without it, refinement starts from nothing.")
    ] = None,
    gold: Annotated[Path | None, typer.Option(help="Labeled messages to report on, none of them in dev.")] = None,
    report: Annotated[Path | None, typer.Option(help="Where to write the HTML report.")] = None,
    dev_votes: Annotated[
        Path | None, typer.Option(help="Where to write the votes on dev that a label model may learn from, as Parquet.")
    ] = None,
    proposer: Annotated[list[str], typer.Option(help="miner or llm; repeatable.")] = ["miner"],  # noqa: B006
    rounds: Annotated[int, typer.Option(help="The maximum number of rounds.", min=0)] = 10,
    tokens: Annotated[int | None, typer.Option(help="The maximum number of tokens for LLMs.")] = None,
    money: Annotated[float | None, typer.Option(help="The maximum cost of LLMs.")] = None,
    multi_label: Annotated[
        bool, typer.Option("--multi-label", "--several-tags", help="A row may have several tags.")
    ] = False,
    key: Annotated[str, typer.Option(help="The key column, which names a row.")] = "id",
    text: Annotated[str, typer.Option(help="The column with the message.")] = "text",
    label: Annotated[str, typer.Option(help="The column with the tag in labeled files.")] = "tag",
    as_json: AsJson = False,
) -> None:
    """Write rules from the label model's errors, round by round. A killed run resumes where it stopped."""
    from kommuna.spec.llm import Budget, Llms
    from kommuna.spec.step import StepContext, StoreAddress
    from kommuna.steps.labeling.refine.rounds import Rounds
    from kommuna.steps.labeling.refine.step import refine_rules
    from kommuna.steps.llm.client import Llm

    unknown = set(proposer) - {"miner", "llm"}
    if unknown:
        raise SpecError(f"no proposer '{min(unknown)}'", fix="the proposers are: miner, llm")
    params: dict[str, Any] = {
        "proposers": proposer, "rounds": rounds, "multi_label": multi_label, "key": key, "text": text, "label": label,
        "model": "",
    }  # fmt: skip
    given = RuleSet.from_yaml(rules) if rules is not None else None
    llms = Llms()
    if "llm" in proposer or (given is not None and any(rule.reads == "answers" for rule in given.rules)):
        llms = installation().platform.llm
    if "llm" in proposer:
        params["model"] = llms.heavy.model if llms.heavy else ""
    tables = {name: path for name, path in (("messages", messages), ("dev", dev), ("gold", gold)) if path is not None}
    several = multi_label or (given is not None and given.multi_label)
    read = {
        name: scanned(path, key, text)
        if name == "messages"
        else scanned_labels(path, key, text, label=label, multi_label=several)
        for name, path in tables.items()
    }
    scans = with_one_key_type(read, key)
    if rules is not None:
        sys.path.insert(0, str(rules.resolve().parent))
        tables["rules"] = rules
    kept = out.with_name(f".{out.name}.rounds").resolve()
    shared, run = StoreAddress(url=kept.as_uri()), _run(params, tables)
    try:
        made = refine_rules(
            scans["messages"],
            scans["dev"],
            given,
            scans.get("gold"),
            **params | {"proposers": cast("list[Literal['miner', 'llm']]", proposer)},
            budget=Budget(tokens=tokens, money=money),
            llm=Llm(llms, shared, work=run),
            kept=Rounds(shared),
            context=StepContext(team="here", key=run),
        )
    except DataError:  # a rerun on the same files would fail in the same way, so its rounds are useless
        shutil.rmtree(kept, ignore_errors=True)
        raise
    columns = ["round", "proposed", "rules_in", "rules_out", "rules", "dev_f1", "gold_f1", "coverage", "llm_cost"]
    shown = made.rounds.select(columns)
    log = message_console(as_json=as_json)
    if as_json:
        print_json(shown.to_dicts())
    else:
        print_table(console, shown.columns, shown.iter_rows())
    if "llm_cost" in made.metrics:
        log.print(llm_bill(made.metrics))
    for path, content in ((out, made.rules.text), (report, made.report.html)):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content, encoding="utf-8")
            log.print(f"Written: {path}")
    if dev_votes is not None:
        dev_votes.parent.mkdir(parents=True, exist_ok=True)
        made.dev_votes.write_parquet(dev_votes)
        log.print(f"Written: {dev_votes}")
    shutil.rmtree(kept, ignore_errors=True)  # only a killed run needs them


def _run(params: dict[str, Any], files: dict[str, Path]) -> str:
    """Returns a run's identity: a digest of its files, its parameters and the version of the step."""
    import hashlib
    import json

    from kommuna.store.digests import file_digest

    digests = {name: file_digest(path) for name, path in files.items()}
    return hashlib.sha256(json.dumps([VERSIONS[_STEP], params, digests]).encode()).hexdigest()
