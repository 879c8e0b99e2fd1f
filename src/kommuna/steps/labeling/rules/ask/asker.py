"""`Asker`: sends what is still unanswered, keeps each answer at once, and stops when it should."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import polars as pl
import structlog

from kommuna.errors import BudgetSpent, KommunaError, LlmAnswerError, LlmUnreachable, NoUsableAnswers, StoreError
from kommuna.spec.llm import Asking
from kommuna.steps.labeling.rules.ask.answers import Answers, digest_of
from kommuna.steps.labeling.rules.ask.prompt import answer_schema, most_tokens, prompt, verdicts
from kommuna.steps.llm.client import Model
from kommuna.steps.llm.session import Session

log = structlog.get_logger()

KEEP_SECONDS = 0.5  # a kill loses at most the answers of this time
PROGRESS_SECONDS = 10.0
FAILURES = ("refused", "malformed", "cut", "contradictory", "too_long", "lost")

_QUESTIONS_A_REQUEST = 16
_CHARACTERS_A_REQUEST = 12_000
_LOST_IN_A_ROW = 5
_FAILED_AT_FIRST = 50


@dataclass(frozen=True)
class Job:
    """What one request asks: some questions about some messages."""

    texts: tuple[str, ...]
    questions: tuple[int, ...]

    @property
    def size(self) -> int:
        """Answers that are asked for."""
        return len(self.texts) * len(self.questions)

    def halves(self) -> tuple[Job, ...]:
        """Two smaller jobs; none where it is one question about one message."""
        texts, questions = self.texts, self.questions
        if len(texts) > 1:
            half = len(texts) // 2
            return Job(texts[:half], questions), Job(texts[half:], questions)
        if len(questions) > 1:
            half = len(questions) // 2
            return Job(texts, questions[:half]), Job(texts, questions[half:])
        return ()

    def without(self, found: Iterable[tuple[int, int]]) -> tuple[Job, ...]:
        """Jobs for what an answer left out."""
        known = set(found)
        if not known:
            return self.halves()
        left = [
            (text, tuple(q for j, q in enumerate(self.questions) if (i, j) not in known))
            for i, text in enumerate(self.texts)
        ]
        return tuple(Job((text,), questions) for text, questions in left if questions)


@dataclass
class Asker:
    """Asks one model.

    A request that fails as a whole is asked again in halves; what fails alone is an abstention and is counted.

    Args:
        model: the model, with its budget.
        questions: every question; jobs name them by position.
        kept: where answers are kept; None keeps nothing.
        asking: how much may fail.
        wanted: answers that are asked for.
        known: answers that were kept before.
    """

    model: Model
    questions: Sequence[str]
    kept: Answers | None
    asking: Asking
    wanted: int
    known: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    _rows: list[tuple[bytes, int, int]] = field(default_factory=list)
    _written: int = 0
    _writing: threading.Lock = field(default_factory=threading.Lock)
    _stop: Exception | None = None
    _lost_in_a_row: int = 0

    @property
    def unasked(self) -> int:
        """Answers that were not asked for, since the budget was spent first."""
        return self.wanted - self.answered - self.failed.total()

    def rows(self) -> pl.DataFrame:
        """The answers so far: `text` (digest), `question` (position), `answer`."""
        return _table(self._rows)

    async def run(self, jobs: Iterator[Job]) -> None:
        """Works all jobs off.

        Raises:
            NoUsableAnswers: more than the declared share failed.
            LlmUnreachable, LlmSettings: the endpoint is of no use. What was answered is kept in all of these cases.
        """
        keeper = asyncio.create_task(self._keep_all_along())
        reporter = asyncio.create_task(self._report_all_along())
        try:
            async with self.model.session() as session:
                workers = [self._work(session, jobs) for _ in range(self.model.endpoint.concurrency)]
                await asyncio.gather(*workers)
        finally:
            keeper.cancel()
            reporter.cancel()
            self._keep()
        if self._stop is not None and not isinstance(self._stop, BudgetSpent):
            raise self._stop
        self.check_share()

    def check_share(self) -> None:
        """Refuses the run once more than the declared share of all answers failed.

        Raises:
            NoUsableAnswers: with the counts by reason.
        """
        if not self._too_many_failed():
            return
        counts = ", ".join(f"{count} {reason}" for reason, count in self.failed.most_common())
        raise NoUsableAnswers(
            f"{self.failed.total()} of {self.known + self.wanted} answers of model '{self.model.endpoint.model}' "
            f"are of no use: {counts}",
            where=f"the share that may fail is {self.asking.max_failed:g}",
            fix="look at the questions, take another model, or raise `max_failed`; what was answered is kept",
        )

    def _too_many_failed(self) -> bool:
        failed = self.failed.total()
        hopeless = not self.answered and not self.known and failed >= _FAILED_AT_FIRST and self.asking.max_failed < 1
        return hopeless or failed > self.asking.max_failed * (self.known + self.wanted)

    async def _work(self, session: Session, jobs: Iterator[Job]) -> None:
        try:
            for job in jobs:
                await self._ask(session, job)
                if self._stop is not None:
                    return
        except Exception as error:
            self._stop = self._stop or error  # the other workers end what they have begun, and that is kept

    async def _ask(self, session: Session, job: Job) -> None:
        if self._stop is not None:
            return
        try:
            found = await self._answer(session, job)
        except LlmAnswerError as error:
            again = job.halves()
            if not again:
                self._fail(error.reason)
        except LlmUnreachable as error:
            self._lose(error, job)
            return
        except KommunaError as error:
            self._stop = self._stop or error
            return
        else:
            again = job.without(found) if len(found) < job.size else ()
            if len(found) < job.size and not again:
                self._fail("malformed")
        for smaller in again:
            await self._ask(session, smaller)

    async def _answer(self, session: Session, job: Job) -> dict[tuple[int, int], int]:
        questions = [self.questions[number] for number in job.questions]
        answer = await session.complete_json(
            prompt(job.texts, questions),
            answer_schema(len(job.texts), len(questions)),
            most_tokens=most_tokens(len(job.texts), len(questions)),
        )
        self._lost_in_a_row = 0
        found = verdicts(answer, len(job.texts), len(questions))
        digests = [digest_of(text) for text in job.texts]
        self._rows += [(digests[i], job.questions[j], said) for (i, j), said in found.items()]
        self.answered += len(found)
        return found

    def _fail(self, reason: str) -> None:
        self.failed[reason] += 1
        try:
            self.check_share()
        except NoUsableAnswers as error:
            self._stop = self._stop or error

    def _lose(self, error: LlmUnreachable, job: Job) -> None:
        """One request without an answer may be bad luck; the first, or several in a row, are a dead endpoint.

        So are lost ones past the share that may fail: a later try of the step can fix that.
        """
        self.failed["lost"] += job.size
        self._lost_in_a_row += 1
        if not self.answered or self._lost_in_a_row >= _LOST_IN_A_ROW or self._too_many_failed():
            self._stop = self._stop or error

    async def _keep_all_along(self) -> None:
        while True:
            await asyncio.sleep(KEEP_SECONDS)
            try:
                await asyncio.to_thread(self._keep)
            except StoreError as error:
                self._stop = self._stop or error  # nobody pays for answers that cannot be kept
                return

    def _keep(self) -> None:
        """Writes the answers that are not kept yet."""
        with self._writing:
            upto = len(self._rows)
            if self.kept is None or upto == self._written:
                return
            rows = _table(self._rows[self._written : upto])
            digests = pl.Series([digest_of(question) for question in self.questions], dtype=pl.Binary)
            self.kept.write(rows.with_columns(question=digests.gather(rows["question"])))
            self._written = upto

    async def _report_all_along(self) -> None:
        began = time.monotonic()
        while True:
            await asyncio.sleep(PROGRESS_SECONDS)
            spending = self.model.spending
            log.info(
                "ask.progress",
                answered=self.answered,
                of=self.wanted,
                failed=self.failed.total(),
                requests=spending.requests,
                cost=round(spending.cost, 4),
                seconds=round(time.monotonic() - began),
            )


def jobs_of(texts: Iterable[str], pending: dict[bytes, tuple[int, ...]], *, messages_per_request: int) -> Iterator[Job]:
    """Groups messages that wait for the same questions into requests.

    Args:
        texts: masked messages, in any order; a repeated one is asked once.
        pending: digest of a text to the questions about it that are unanswered; emptied on the way.
        messages_per_request: at most; fewer where they are long.
    """
    waiting: dict[tuple[int, ...], list[str]] = {}
    for text in texts:
        questions = pending.pop(digest_of(text), ())
        if not questions:
            continue
        group = waiting.setdefault(questions, [])
        if group and sum(map(len, group)) + len(text) > _CHARACTERS_A_REQUEST:
            yield from _jobs(group, questions)
            group.clear()
        group.append(text)
        if len(group) == messages_per_request:
            yield from _jobs(group, questions)
            group.clear()
    for questions, group in waiting.items():
        if group:
            yield from _jobs(group, questions)


def _jobs(texts: Sequence[str], questions: tuple[int, ...]) -> Iterator[Job]:
    for start in range(0, len(questions), _QUESTIONS_A_REQUEST):
        yield Job(tuple(texts), questions[start : start + _QUESTIONS_A_REQUEST])


def _table(rows: Sequence[tuple[bytes, int, int]]) -> pl.DataFrame:
    schema = {"text": pl.Binary, "question": pl.Int64, "answer": pl.Int8}
    return pl.DataFrame(rows, schema=schema, orient="row")
