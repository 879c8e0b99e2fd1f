"""The votes of `ask` rules: what is kept is looked up, the rest is asked, answers become votes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import polars as pl
import structlog

from kommuna.spec.llm import Asking
from kommuna.spec.rules import AskRule, Rule, RuleSet
from kommuna.steps.etl.mask import mask_pii
from kommuna.steps.labeling.rules.ask.answers import CONTRADICTED, Answers, digest_of
from kommuna.steps.labeling.rules.ask.asker import FAILURES, Asker, jobs_of
from kommuna.steps.labeling.rules.ask.prompt import NO, PROMPT_VERSION, UNKNOWN, YES
from kommuna.steps.llm.client import Llm, Model, run_sync

log = structlog.get_logger()

_BATCH_ROWS = 5_000
_TEXT, _DIGEST = "text", "digest"


class Asked(NamedTuple):
    """What `ask_votes` leaves."""

    votes: pl.DataFrame
    metrics: dict[str, float]


def ask_votes(
    messages: pl.LazyFrame,
    rules: RuleSet,
    llm: Llm,
    *,
    asking: Asking | None = None,
    key: str = "id",
    text: str = "text",
) -> Asked:
    """Asks the light LLM the questions of all `ask` rules about all messages.

    A text is asked a question once, ever: answers are kept in the store for every later run of the team. Texts are
    masked here, whatever was done to them before: nothing else leaves.

    Args:
        messages: one row a message: `key`, unique, and `text`; a null or blank text is not asked about.
        rules: the rule set; its `ask` rules are asked.
        llm: the platform's models.
        asking: the budget, and the share of answers that may fail.
        key: the column that names a row.
        text: the column with the message.

    Returns:
        votes: `key` and one column an `ask` rule, in the messages' order: a tag by name (`!tag` against it), or 1/0
            where rows have several tags. Yes votes as the rule says; no votes against
            its tag where the rule has `no_is_against`; everything else is null.
        metrics: `ask_wanted` answers (distinct texts times questions), of them `ask_cached`, `ask_answered`,
            `ask_unasked` (the budget was spent), and failed ones by reason; `ask_unknown`; `ask_unmasked_rows`; the
            model's own figures (`llm_requests`, `llm_cost`, `llm_latency_p95`, …).

    Raises:
        LlmSettings: the platform names no light model, or its key or name is refused.
        LlmUnreachable: the endpoint does not answer.
        NoUsableAnswers: more than the declared share of answers failed.
    """
    asking = asking or Asking()
    ask_rules = [rule for rule in rules.rules if isinstance(rule, AskRule)]
    questions = list(dict.fromkeys(_question(rule) for rule in ask_rules))
    model = llm.light(asking.budget, name=asking.model)
    masked = mask_pii(messages.select(key, text), text=text, names=asking.names, region=asking.region)
    if masked.metrics["masked_rows"]:
        log.warning("ask.unmasked", rows=int(masked.metrics["masked_rows"]), hint="mask messages by mask_pii before")
    texts = masked.table.select(key, pl.col(text).cast(pl.String).alias(_TEXT))
    rows = texts.select(key, _digests().alias(_DIGEST)).collect(engine="streaming")
    kept = _kept(llm, model)
    cached = kept.load([digest_of(question) for question in questions]) if kept else None
    known = _known(cached, questions, rows[_DIGEST])
    pending = _pending(rows[_DIGEST], known, len(questions))
    asker = Asker(model, questions, kept, asking, wanted=sum(map(len, pending.values())), known=known.height)
    if asker.wanted:
        log.info("ask.started", model=model.endpoint.model, answers=asker.wanted, cached=known.height)
        jobs = jobs_of(_texts(texts), pending, messages_per_request=asking.messages_per_request)
        run_sync(asker.run(jobs))
    if kept is not None:
        kept.merge()
    answers = pl.concat([known, asker.rows()])
    votes, contradictory = _votes(answers, rules, ask_rules, questions)
    metrics = _metrics(asker, answers, masked.metrics["masked_rows"], contradictory)
    _report(asker)
    asker.failed["contradictory"] += contradictory
    asker.check_share()
    joined = rows.join(votes, left_on=_DIGEST, right_on=_TEXT, how="left", maintain_order="left").drop(_DIGEST)
    return Asked(joined, metrics | model.metrics())


def _question(rule: AskRule) -> str:
    return " ".join(rule.ask.split())


def _kept(llm: Llm, model: Model) -> Answers | None:
    if llm.shared is None:
        return None
    return Answers(llm.shared, model=model.endpoint.model, prompt_version=PROMPT_VERSION)


def _digests() -> pl.Expr:
    """Digest of each text; null where there is nothing to ask about."""

    def digests(texts: pl.Series) -> pl.Series:
        return pl.Series([digest_of(text) if text and not text.isspace() else None for text in texts], dtype=pl.Binary)

    return pl.col(_TEXT).map_batches(digests, return_dtype=pl.Binary, is_elementwise=True)


def _texts(texts: pl.LazyFrame) -> Iterator[str]:
    """The masked texts, batch by batch."""
    batches = (
        texts.select(_TEXT)
        .drop_nulls()
        .collect_batches(chunk_size=_BATCH_ROWS, maintain_order=True, lazy=True, engine="streaming")
    )
    for batch in batches:
        yield from batch[_TEXT]


def _known(cached: pl.DataFrame | None, questions: Sequence[str], digests: pl.Series) -> pl.DataFrame:
    """Kept answers about these messages: `text`, `question` (position), `answer`."""
    if cached is None or cached.is_empty():
        return pl.DataFrame(schema={"text": pl.Binary, "question": pl.Int64, "answer": pl.Int8})
    numbers = pl.DataFrame(
        {"question": [digest_of(question) for question in questions], "number": range(len(questions))},
        schema={"question": pl.Binary, "number": pl.Int64},
    )
    here = digests.drop_nulls().unique().to_frame("text")
    return (
        cached.join(here, on="text", how="semi")
        .join(numbers, on="question")
        .select("text", pl.col("number").alias("question"), "answer")
    )


def _pending(digests: pl.Series, known: pl.DataFrame, questions: int) -> dict[bytes, tuple[int, ...]]:
    """Digest of each text with unanswered questions to those questions."""
    everything = tuple(range(questions))
    pending = dict.fromkeys(digests.drop_nulls().unique(maintain_order=True), everything)
    for text, answered in known.group_by("text").agg("question").iter_rows():
        left = tuple(number for number in everything if number not in answered)
        if left:
            pending[text] = left
        else:
            del pending[text]
    return pending


def _votes(
    answers: pl.DataFrame, rules: RuleSet, ask_rules: Sequence[AskRule], questions: Sequence[str]
) -> tuple[pl.DataFrame, int]:
    """Votes by text digest, and how many answers are dropped since they contradict each other.

    One model's answers that speak both for and against a tag, about one message, say nothing of it.
    """
    wide = answers.select("text").unique()
    for number in range(len(questions)):
        column = answers.filter(pl.col("question") == number).select("text", pl.col("answer").alias(f"q{number}"))
        wide = wide.join(column, on="text", how="left")
    spoken: dict[str, pl.Expr] = {}
    for rule in ask_rules:
        answer = pl.col(f"q{questions.index(_question(rule))}")
        no = pl.when(answer == NO).then(False) if rule.no_is_against else pl.lit(None, dtype=pl.Boolean)
        spoken[rule.name] = pl.when(answer == YES).then(not rule.against).otherwise(no)
    contradictory = int((answers["answer"] == CONTRADICTED).sum())
    wide = wide.select("text", *(said.alias(name) for name, said in spoken.items()))
    for tag in dict.fromkeys(rule.tag for rule in ask_rules):
        names = [rule.name for rule in ask_rules if rule.tag == tag]
        both = pl.any_horizontal(pl.col(names)) & ~pl.all_horizontal(pl.col(names).fill_null(True))
        contradictory += int(
            wide.select(pl.when(both).then(pl.sum_horizontal(pl.col(names).is_not_null())).sum()).item()
        )
        wide = wide.with_columns(pl.when(~both.fill_null(False)).then(pl.col(name)).alias(name) for name in names)
    return wide.select("text", *(_vote(rule, rules) for rule in ask_rules)), contradictory


def _vote(rule: Rule, rules: RuleSet) -> pl.Expr:
    """The vote of a rule that spoke for (true) or against (false) its tag."""
    dtype, values = (pl.Int8, (1, 0)) if rules.several_tags else (pl.String, (rule.tag, f"!{rule.tag}"))
    spoken = pl.col(rule.name)
    vote = pl.when(spoken).then(pl.lit(values[0])).when(~spoken).then(pl.lit(values[1]))
    return vote.cast(dtype).alias(rule.name)


def _metrics(asker: Asker, answers: pl.DataFrame, unmasked: float, contradictory: int) -> dict[str, float]:
    counts = {
        "ask_wanted": asker.known + asker.wanted,
        "ask_cached": asker.known,
        "ask_answered": asker.answered,
        "ask_unasked": asker.unasked,
        "ask_unknown": int((answers["answer"] == UNKNOWN).sum()),
        "ask_unmasked_rows": unmasked,
    } | {f"ask_{reason}": asker.failed[reason] for reason in FAILURES}
    counts["ask_contradictory"] += contradictory
    return {name: float(count) for name, count in counts.items()}


def _report(asker: Asker) -> None:
    """One line of what came of it, and a warning of what is missing."""
    spending = asker.model.spending
    log.info(
        "ask.done",
        answered=asker.answered,
        failed=asker.failed.total(),
        requests=spending.requests,
        cost=round(spending.cost, 4),
    )
    if asker.unasked:
        log.warning(
            "ask.budget_spent",
            unasked=asker.unasked,
            budget=str(spending.budget),
            hint="these rules abstain there; raise the budget: what was answered is kept",
        )
