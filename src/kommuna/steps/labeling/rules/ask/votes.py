"""The votes of `ask` rules: cached answers are looked up, the others requested, and answers become votes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import polars as pl
import structlog

from kommuna.errors import RulesError
from kommuna.spec.llm import Asking
from kommuna.spec.rules import AskRule, Rule, RuleSet
from kommuna.spec.step import StoreAddress
from kommuna.steps.etl.mask import mask_pii
from kommuna.steps.etl.pii.masker import Masker
from kommuna.steps.labeling.rules.ask.answer_cache import AnswerCache, digest_of
from kommuna.steps.labeling.rules.ask.batches import BatchedQuestions
from kommuna.steps.labeling.rules.ask.estimate import expected_tokens
from kommuna.steps.labeling.rules.ask.prompt import NO, UNKNOWN, YES, Prompt, prompt_for
from kommuna.steps.labeling.rules.ask.questions import questions_table
from kommuna.steps.labeling.rules.ask.requests import FAILURES, Request, RequestRunner, requests_for
from kommuna.steps.labeling.votes.grades import confidence_column
from kommuna.steps.llm.allowance import least
from kommuna.steps.llm.client import Llm, Model, run_sync
from kommuna.steps.llm.ledger import Billed

log = structlog.get_logger()

_BATCH_ROWS = 5_000
_TEXT, _DIGEST, _BYTES = "text", "digest", "bytes"


class AskVotes(NamedTuple):
    """The outputs of `ask_votes`."""

    votes: pl.DataFrame
    questions: pl.DataFrame
    metrics: dict[str, float]


def ask_votes(
    messages: pl.LazyFrame,
    rules: RuleSet,
    llm: Llm,
    *,
    asking: Asking | None = None,
    key: str = "id",
    text: str = "text",
) -> AskVotes:
    """Asks the light LLM the questions of all `ask` rules about all messages.

    Each question about a text is asked once: answers are cached in the store for all later runs of the team. This
    function masks the texts, even if they were masked before, so that the LLM receives masked texts only.

    Args:
        messages: one row per message: `key`, unique, and `text`; null and blank texts get no questions.
        rules: the rule set; only its `ask` rules are used.
        llm: the platform's models.
        asking: the budget, and the share of answers that may fail.
        key: the column that names a row.
        text: the column with the message.

    Returns:
        votes: `key` and one column per `ask` rule, in the messages' order: a tag by name (`!tag` against it), or 1/0
            where rows may have several tags. Yes is the rule's vote; no is a vote against its tag if the rule has
            `no_is_against`; everything else is null. If the endpoint gives log probabilities, there is also
            `RULE:confidence` for each rule: the probability of its answer, null where the rule abstains.
        questions: one row per `ask` rule: its question, prompt, answers and cost (`questions_table`).
        metrics: `ask_wanted` (distinct texts times questions), of these `ask_cached`, `ask_answered`, `ask_unasked`
            (the budget was spent), and failed ones by reason; `ask_batched` (answered by batches of this attempt);
            `ask_asked_again` (earlier runs received different answers), `ask_damaged_segments` (of cached answers),
            `ask_unknown`, `ask_unmasked_rows`;
            `ask_expected_tokens` and `ask_expected_cost`, estimated before the first request; the model's own
            figures (`llm_requests`, `llm_cost`, `llm_latency_p95`, …); what the team's budgets leave
            (`llm_month_money_left`, …).

    Raises:
        LlmSettings: the platform has no light model, or the endpoint rejects its key or name.
        LlmUnreachable: the endpoint does not answer.
        TeamBudgetSpent: the team's budget of the month or of the run leaves less than is expected to be needed.
        NoUsableAnswers: more than the allowed share of answers failed.
        RulesError: two questions differ only by personal data, which is masked.
    """
    asking = asking or Asking()
    model = llm.light(asking.budget, name=asking.model)
    votes, questions, metrics = votes_by(model, messages, rules, asking, shared=llm.shared, key=key, text=text)
    return AskVotes(votes, questions, metrics | model.metrics() | llm.allowance.metrics())


def votes_by(
    model: Model,
    messages: pl.LazyFrame,
    rules: RuleSet,
    asking: Asking,
    *,
    shared: StoreAddress | None,
    key: str,
    text: str,
) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, float]]:
    """Asks one model, within what is left of its budget; see `ask_votes`.

    Args:
        model: the model.
        messages: one row per message.
        rules: the rule set.
        asking: the share of answers that may fail, and what is masked.
        shared: where answers are kept; None: nowhere.
        key: the column that names a row.
        text: the column with the message.

    Returns:
        Votes, questions and metrics of `ask_votes`, without the model's own figures.
    """
    ask_rules = [rule for rule in rules.rules if isinstance(rule, AskRule)]
    asked = _questions(ask_rules, asking)
    billed_before = model.spending.total
    questions = list(dict.fromkeys(asked.values()))
    masked = mask_pii(messages.select(key, text), text=text, names=asking.names, region=asking.region)
    if masked.metrics["masked_rows"]:
        log.warning("ask.unmasked", rows=int(masked.metrics["masked_rows"]), hint="mask messages with mask_pii before")
    texts = masked.table.select(key, pl.col(text).cast(pl.String).alias(_TEXT))
    sized = texts.select(key, _digests().alias(_DIGEST), pl.col(_TEXT).str.len_bytes().alias(_BYTES))
    rows = sized.collect(engine="streaming")
    prompt = prompt_for(messages.select(pl.col(text).cast(pl.String)).head(_BATCH_ROWS).collect()[text])
    cache = None
    if shared is not None:
        cache = AnswerCache(shared, model=model.endpoint.model, prompt_version=prompt.version)
    batched = None
    if cache is not None and shared is not None and asking.batch_from is not None:
        batched = BatchedQuestions(model, prompt, questions, cache, shared)
        run_sync(batched.finish())

    def known_and_pending() -> tuple[pl.DataFrame, dict[bytes, tuple[int, ...]]]:
        cached = cache.load([digest_of(question) for question in questions]) if cache else None
        known = _known(cached, questions, rows[_DIGEST])
        return known, _pending(rows[_DIGEST], known, len(questions))

    def requests(pending: dict[bytes, tuple[int, ...]]) -> Iterator[Request]:
        return requests_for(_texts(texts), pending, messages_per_request=asking.messages_per_request)

    known, pending = known_and_pending()
    expected = _expected(rows, pending, questions, prompt, model, asking)
    wanted, at_first = sum(map(len, pending.values())), known
    if wanted:
        _start(model, prompt, expected, wanted=wanted, known=known.height)
    if batched is not None and asking.batch_from is not None and wanted >= asking.batch_from:
        run_sync(batched.send(requests(pending)))
        known, pending = known_and_pending()
        wanted = sum(map(len, pending.values()))
    runner = RequestRunner(model, prompt, questions, cache, asking, wanted=wanted, known=known.height)
    if runner.wanted:
        run_sync(runner.run(requests(pending)))
    if cache is not None:
        cache.merge()
    answers = pl.concat([known, runner.rows()])
    votes, contradictory = _votes(answers, rules, ask_rules, asked)
    metrics = _metrics(runner, answers, masked.metrics["masked_rows"], contradictory)
    by_batches = float(known.height - at_first.height)
    metrics |= {
        "ask_batched": by_batches,
        "ask_answered": metrics["ask_answered"] + by_batches,
        "ask_cached": metrics["ask_cached"] - by_batches,
    }
    _report(runner)
    runner.failed["contradictory"] += contradictory
    runner.check_share()
    metrics |= _cache_metrics(cache, rows[_DIGEST])
    joined = rows.join(votes, left_on=_DIGEST, right_on=_TEXT, how="left", maintain_order="left")
    metrics |= {"ask_expected_tokens": float(expected.tokens), "ask_expected_cost": expected.money}
    billed = model.spending.total.minus(billed_before)
    table = questions_table(ask_rules, asked, model.endpoint.model, prompt, answers, at_first, billed)
    return joined.drop(_DIGEST, _BYTES), table, metrics


def _expected(
    rows: pl.DataFrame,
    pending: Mapping[bytes, tuple[int, ...]],
    questions: Sequence[str],
    prompt: Prompt,
    model: Model,
    asking: Asking,
) -> Billed:
    """Returns what the unanswered questions are expected to be billed."""
    sizes = dict(rows.select(_DIGEST, _BYTES).drop_nulls().iter_rows())
    requests, tokens = expected_tokens(
        pending, sizes, questions, prompt, messages_per_request=asking.messages_per_request
    )
    return model.spending.bill(tokens, requests)


def _start(model: Model, prompt: Prompt, expected: Billed, *, wanted: int, known: int) -> None:
    """Logs what the run is expected to need beside what is left, before anything is sent.

    Raises:
        TeamBudgetSpent: the team's budget of the month or of the run does not suffice.
    """
    spending = model.spending
    need = least(expected, spending.budget_left)
    if spending.allowance is not None:
        spending.allowance.require(need)
    log.info(
        "ask.started",
        model=model.endpoint.model,
        prompt=f"{prompt.language} {prompt.version}",
        answers=wanted,
        cached=known,
        expected_tokens=expected.tokens,
        expected_cost=round(expected.money, 4),
        left=[str(left) for left in spending.allowance.left()] if spending.allowance is not None else [],
    )
    if need != expected:
        log.warning(
            "ask.budget_will_not_suffice",
            expected_tokens=expected.tokens,
            expected_cost=round(expected.money, 4),
            budget=str(spending.budget),
            hint="the rules will abstain on some messages; raise the budget, or ask fewer questions",
        )


def _questions(ask_rules: Sequence[AskRule], asking: Asking) -> dict[str, str]:
    """Returns the question of each rule as it is sent: on one line, masked.

    Raises:
        RulesError: two questions would be sent as one.
    """
    masker = Masker(asking.names, asking.region)
    first: dict[str, tuple[str, AskRule]] = {}
    questions = {}
    for rule in ask_rules:
        written = " ".join(rule.ask.split())
        questions[rule.name] = sent = masker.mask(written)[0]
        same, other = first.setdefault(sent, (written, rule))
        if same != written:
            raise RulesError(
                f"rules '{other.name}' and '{rule.name}' would ask the same question: \"{sent}\"",
                where=rule.where,
                fix="personal data is masked in questions as in messages: ask for something else",
            )
    return questions


def _digests() -> pl.Expr:
    """Returns the digest of each text; null for null and blank texts."""

    def digests(texts: pl.Series) -> pl.Series:
        return pl.Series([digest_of(text) if text and not text.isspace() else None for text in texts], dtype=pl.Binary)

    return pl.col(_TEXT).map_batches(digests, return_dtype=pl.Binary, is_elementwise=True)


def _texts(texts: pl.LazyFrame) -> Iterator[str]:
    """Yields the masked texts, which are read in batches."""
    batches = (
        texts.select(_TEXT)
        .drop_nulls()
        .collect_batches(chunk_size=_BATCH_ROWS, maintain_order=True, lazy=True, engine="streaming")
    )
    for batch in batches:
        yield from batch[_TEXT]


def _known(cached: pl.DataFrame | None, questions: Sequence[str], digests: pl.Series) -> pl.DataFrame:
    """Returns the cached answers about these messages as `RequestRunner.rows` does."""
    if cached is None or cached.is_empty():
        schema = {"text": pl.Binary, "question": pl.Int64, "answer": pl.Int8, "confidence": pl.Float32}
        return pl.DataFrame(schema=schema)
    numbers = pl.DataFrame(
        {"question": [digest_of(question) for question in questions], "number": range(len(questions))},
        schema={"question": pl.Binary, "number": pl.Int64},
    )
    here = digests.drop_nulls().unique().to_frame("text")
    return (
        cached.join(here, on="text", how="semi")
        .join(numbers, on="question")
        .select("text", pl.col("number").alias("question"), "answer", "confidence")
    )


def _pending(digests: pl.Series, known: pl.DataFrame, questions: int) -> dict[bytes, tuple[int, ...]]:
    """Returns the unanswered questions by digest of the text; texts without such questions are left out."""
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
    answers: pl.DataFrame, rules: RuleSet, ask_rules: Sequence[AskRule], asked: Mapping[str, str]
) -> tuple[pl.DataFrame, int]:
    """Returns votes by digest of the text, and the number of answers that are dropped as contradictory.

    Answers of one model for a tag and against the same tag, about one message, contradict each other.
    """
    questions = list(dict.fromkeys(asked.values()))
    wide = answers.select("text").unique()
    for number in range(len(questions)):
        columns = pl.col("answer").alias(f"q{number}"), pl.col("confidence").alias(f"p{number}")
        column = answers.filter(pl.col("question") == number).select("text", *columns)
        wide = wide.join(column, on="text", how="left")
    known = answers["confidence"].is_not_null().any()
    confidences = {rule.name: pl.col(f"p{questions.index(asked[rule.name])}") for rule in ask_rules} if known else {}
    supports: dict[str, pl.Expr] = {}  # true for the rule's tag, false against it
    for rule in ask_rules:
        answer = pl.col(f"q{questions.index(asked[rule.name])}")
        no = pl.when(answer == NO).then(False) if rule.no_is_against else pl.lit(None, dtype=pl.Boolean)
        supports[rule.name] = pl.when(answer == YES).then(not rule.against).otherwise(no)
    contradictory = 0
    wide = wide.select(
        "text",
        *(support.alias(name) for name, support in supports.items()),
        *(sure.alias(confidence_column(name)) for name, sure in confidences.items()),
    )
    for tag in dict.fromkeys(rule.tag for rule in ask_rules):
        names = [rule.name for rule in ask_rules if rule.tag == tag]
        both = pl.any_horizontal(pl.col(names)) & ~pl.all_horizontal(pl.col(names).fill_null(True))
        contradictory += int(
            wide.select(pl.when(both).then(pl.sum_horizontal(pl.col(names).is_not_null())).sum()).item()
        )
        wide = wide.with_columns(pl.when(~both.fill_null(False)).then(pl.col(name)).alias(name) for name in names)
    sure = [pl.when(pl.col(name).is_not_null()).then(pl.col(confidence_column(name))) for name in confidences]
    return wide.select("text", *(_vote(rule, rules) for rule in ask_rules), *sure), contradictory


def _vote(rule: Rule, rules: RuleSet) -> pl.Expr:
    """Returns a rule's vote for (true) or against (false) its tag."""
    dtype, values = (pl.Int8, (1, 0)) if rules.multi_label else (pl.String, (rule.tag, f"!{rule.tag}"))
    support = pl.col(rule.name)
    vote = pl.when(support).then(pl.lit(values[0])).when(~support).then(pl.lit(values[1]))
    return vote.cast(dtype).alias(rule.name)


def _metrics(runner: RequestRunner, answers: pl.DataFrame, unmasked: float, contradictory: int) -> dict[str, float]:
    counts = {
        "ask_wanted": runner.known + runner.wanted,
        "ask_cached": runner.known,
        "ask_answered": runner.answered,
        "ask_unasked": runner.unasked,
        "ask_unknown": int((answers["answer"] == UNKNOWN).sum()),
        "ask_unmasked_rows": unmasked,
    } | {f"ask_{reason}": runner.failed[reason] for reason in FAILURES}
    counts["ask_contradictory"] += contradictory
    return {name: float(count) for name, count in counts.items()}


def _cache_metrics(cache: AnswerCache | None, digests: pl.Series) -> dict[str, float]:
    if cache is None:
        return {"ask_asked_again": 0.0, "ask_damaged_segments": 0.0}
    here = digests.drop_nulls().unique().to_frame("text")
    again = cache.contradicted.join(here, on="text", how="semi").height
    return {"ask_asked_again": float(again), "ask_damaged_segments": float(cache.damaged)}


def _report(runner: RequestRunner) -> None:
    """Logs the totals, and a warning if the budget was spent."""
    spending = runner.model.spending
    log.info(
        "ask.done",
        answered=runner.answered,
        failed=runner.failed.total(),
        requests=spending.requests,
        cost=round(spending.cost, 4),
    )
    if runner.unasked:
        log.warning(
            "ask.budget_spent",
            unasked=runner.unasked,
            budget=str(spending.budget),
            hint="the rules abstain on the remaining messages; raise the budget: earlier answers are kept",
        )
