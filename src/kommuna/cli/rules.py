"""`kommuna rules test`: evaluates rules on a file of messages, without Airflow."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kommuna.cli.here import console, installation, message_console
from kommuna.cli.refine import refine
from kommuna.cli.scan import scanned, scanned_labels, with_one_key_type
from kommuna.cli.tables import AsJson, llm_bill, print_json, print_table
from kommuna.errors import SpecError
from kommuna.spec.llm import Asking, Budget
from kommuna.spec.rules import RuleSet
from kommuna.spec.step import StoreAddress

if TYPE_CHECKING:
    import polars as pl

    from kommuna.steps.labeling.apply import Applied

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
        Path | None,
        typer.Option(help="A file with keys and true tags: of some of the messages, or, with texts, of other rows."),
    ] = None,
    dev_votes: Annotated[
        Path | None,
        typer.Option(
            help="The rules' votes on the labeled rows, as written by `rules refine --dev-votes`. Without it the rules "
            "are applied to these rows."
        ),
    ] = None,
    key: Annotated[str, typer.Option(help="The key column, which names a row.")] = "id",
    text: Annotated[str, typer.Option(help="The column with the message.")] = "text",
    label: Annotated[str, typer.Option(help="The column with the tag in labeled files.")] = "tag",
    group: Annotated[str | None, typer.Option(help="Only the rules of this group.")] = None,
    tokens: Annotated[int | None, typer.Option(help="The maximum number of tokens for `ask` rules.")] = None,
    money: Annotated[float | None, typer.Option(help="The maximum cost of `ask` rules.")] = None,
    report: Annotated[Path | None, typer.Option(help="Where to write the HTML report.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show each rule's coverage, overlap, conflict and, with labels, accuracy and contribution, the worst first.

    The questions of `ask` rules are sent to the light LLM of kommuna.yaml.
    """
    from kommuna.steps.labeling.rule_report import rule_report

    if dev_votes is not None and labels is None:
        raise SpecError("--dev-votes needs --labels", fix="also pass the labeled rows that the votes are on")
    rule_set = RuleSet.from_yaml(rules)
    if group is not None:
        rule_set = rule_set.only(group)
    sys.path.insert(0, str(rules.resolve().parent))
    rows = scanned(messages, key, text)
    dev = scanned_labels(labels, key, label=label, multi_label=rule_set.multi_label) if labels else None
    held_out = scanned(dev_votes, key) if dev_votes is not None else None
    if dev is not None:
        tables = {"rows": rows, "dev": dev} | ({"held_out": held_out} if held_out is not None else {})
        tables = with_one_key_type(tables, key)
        rows, dev, held_out = tables["rows"], tables["dev"], tables.get("held_out")
    with tempfile.TemporaryDirectory(prefix="kommuna-answers-") as folder:
        applied = _Applying(rule_set, Budget(tokens=tokens, money=money), Path(folder), key=key, text=text)
        votes = applied(rows).votes
        votes_on_dev = None
        if dev is not None:  # labels with texts are separate rows; labels without texts refer to rows of the messages
            own_texts = text in dev.collect_schema().names()
            if held_out is None:
                held_out = applied(dev).votes if own_texts else votes
            votes_on_dev = held_out
            if not own_texts:
                dev = dev.join(rows.select(key, text), on=key, how="left", maintain_order="left")
    made = rule_report(votes, rule_set, None, votes_on_dev, dev, applied.questions, key=key, text=text, label=label)
    known = [column for column in made.table.columns if made.table[column].null_count() < made.table.height]
    if as_json:
        print_json({"rules": made.table.to_dicts(), "metrics": made.metrics})
    else:
        print_table(console, known, made.table.select(known).iter_rows())
    log = message_console(as_json=as_json)
    if applied.metrics:
        log.print(applied.bill())
    if rule_set.otherwise is not None:
        left = made.metrics["left_to_default"]
        log.print(
            f"No rule votes on {left:.1%} of rows; they get the default tag {rule_set.otherwise}",
        )  # fmt: skip
    if report:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(made.report.html, encoding="utf-8")
        log.print(f"Written: {report}")


class _Applying:
    """Applies one rule set to several tables. Each question about a text is asked once, within one budget.

    Attributes:
        metrics: those of the LLM so far; none where no rule asks one.
    """

    def __init__(self, rules: RuleSet, budget: Budget, folder: Path, *, key: str, text: str) -> None:
        self._rules, self._key, self._text = rules, key, text
        self._folder, self._budget = folder, budget
        self.metrics: dict[str, float] = {}
        self._texts = 0.0
        self._questions: list[pl.LazyFrame] = []

    @property
    def questions(self) -> pl.LazyFrame | None:
        """What each question was answered, and what it cost; None where no rule asks one."""
        import polars as pl

        return pl.concat(self._questions) if self._questions else None

    def __call__(self, table: pl.LazyFrame) -> Applied:
        """Returns the rules' votes on a table."""
        from kommuna.steps.labeling.apply import apply_rules

        questions = sum(rule.reads == "answers" for rule in self._rules.rules)
        if not questions:
            return apply_rules(table, self._rules, key=self._key, text=self._text)
        from kommuna.steps.llm.client import Llm

        shared = StoreAddress(url=self._folder.as_uri())
        llm = Llm(installation().platform.llm, shared, work="rules-test")
        made = apply_rules(
            table, self._rules, llm=llm, asking=Asking(budget=self._budget), key=self._key, text=self._text
        )
        self.metrics = {name: value for name, value in made.metrics.items() if name.startswith("llm_")}
        self._questions.append(made.questions.lazy())
        self._texts += made.metrics["ask_answered"] / questions
        return made

    def bill(self) -> str:
        """Returns what the questions cost, and what they would cost for more messages."""
        said = llm_bill(self.metrics)
        if not self._texts:
            return said
        tokens = self.metrics["llm_tokens_in"] + self.metrics["llm_tokens_out"]
        tokens, cost = 1000 * tokens / self._texts, 1000 * self.metrics["llm_cost"] / self._texts
        return f"{said}; 1,000 more messages: about {tokens:,.0f} tokens, cost {cost:.2f}"
