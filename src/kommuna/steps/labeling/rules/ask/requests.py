"""Sends the requests of `ask` rules to the LLM, stores each answer before the next request, and keeps the budget."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import polars as pl
import structlog

from kommuna.errors import BudgetSpent, KommunaError, LlmAnswerError, LlmUnreachable, NoUsableAnswers
from kommuna.spec.llm import Asking
from kommuna.steps.labeling.rules.ask.answer_cache import MANY_SEGMENTS, AnswerCache, digest_of
from kommuna.steps.labeling.rules.ask.confidence import confidences
from kommuna.steps.labeling.rules.ask.prompt import Prompt, answer_schema, most_tokens, parsed_answers
from kommuna.steps.llm.client import Model
from kommuna.steps.llm.ledger import Commits
from kommuna.steps.llm.response import CompletedAnswer
from kommuna.steps.llm.session import Session

log = structlog.get_logger()

PROGRESS_SECONDS = 10.0  # between two lines of progress
FAILURES = ("refused", "malformed", "cut", "contradictory", "too_long", "lost")

QUESTIONS_PER_REQUEST = 16
_CHARACTERS_PER_REQUEST = 12_000
_LOST_IN_A_ROW = 5  # lost requests after which the endpoint counts as down
_FAILED_AT_FIRST = 50  # failed answers, without a single usable one, after which the run ends

AnswerRow = tuple[bytes, int, int, float | None]  # digest of the text, position of the question, answer, confidence


@dataclass(frozen=True)
class Request:
    """The content of one request: some questions about some messages.

    Attributes:
        texts: the masked messages.
        questions: positions among all questions.
    """

    texts: tuple[str, ...]
    questions: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of answers."""
        return len(self.texts) * len(self.questions)

    def halves(self) -> tuple[Request, ...]:
        """Splits the request in two; empty if it is one question about one message."""
        texts, questions = self.texts, self.questions
        if len(texts) > 1:
            half = len(texts) // 2
            return Request(texts[:half], questions), Request(texts[half:], questions)
        if len(questions) > 1:
            half = len(questions) // 2
            return Request(texts, questions[:half]), Request(texts, questions[half:])
        return ()

    def without(self, answered: Iterable[tuple[int, int]]) -> tuple[Request, ...]:
        """Returns requests for the answers that are still missing.

        Args:
            answered: the (message, question) pairs that were answered, both numbered within the request.
        """
        known = set(answered)
        if not known:
            return self.halves()
        left = [
            (text, tuple(q for j, q in enumerate(self.questions) if (i, j) not in known))
            for i, text in enumerate(self.texts)
        ]
        return tuple(Request((text,), questions) for text, questions in left if questions)


@dataclass
class RequestRunner:
    """Sends requests to one model and collects the answers.

    A request that fails as a whole is repeated in halves. A single question that fails counts as an abstention. What a
    request answered is durable before its worker sends another, so a killed run loses only answers in flight.

    Args:
        model: the model, with its budget.
        prompt: the instructions.
        questions: all questions; requests name them by position.
        cache: where answers are stored; None: nowhere.
        asking: the share of answers that may fail.
        wanted: the number of answers to request.
        known: the number of answers that were cached.
    """

    model: Model
    prompt: Prompt
    questions: Sequence[str]
    cache: AnswerCache | None
    asking: Asking
    wanted: int
    known: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    _rows: list[AnswerRow] = field(default_factory=list)
    _written: int = 0
    _segments: list[str] = field(default_factory=list)
    _small: list[AnswerRow] = field(default_factory=list)  # the answers in these segments
    _stop: Exception | None = None
    _lost_in_a_row: int = 0

    @property
    def unasked(self) -> int:
        """The number of answers that were not requested because the budget was spent."""
        return self.wanted - self.answered - self.failed.total()

    def rows(self) -> pl.DataFrame:
        """Returns the answers so far: `text` (digest), `question` (position), `answer`, `confidence`."""
        return _table(self._rows)

    async def run(self, requests: Iterator[Request]) -> None:
        """Sends all requests. Answers that have arrived are stored whatever the outcome.

        Raises:
            NoUsableAnswers: more than the allowed share failed.
            LlmUnreachable: the endpoint does not answer.
            LlmSettings: the endpoint rejects the key, the model or the request.
        """
        kept = Commits(self._unwritten)
        reporter = asyncio.create_task(self._report_periodically())
        try:
            async with self.model.session(logprobs=True) as session:
                workers = [self._work(session, requests, kept) for _ in range(self.model.endpoint.concurrency)]
                await asyncio.gather(*workers)
        finally:
            reporter.cancel()
        if self._stop is not None and not isinstance(self._stop, BudgetSpent):
            raise self._stop
        self.check_share()

    def check_share(self) -> None:
        """Checks that no more than the allowed share of all answers failed.

        Raises:
            NoUsableAnswers: more failed; the message counts them by reason.
        """
        if not self._too_many_failed():
            return
        counts = ", ".join(f"{count} {reason}" for reason, count in self.failed.most_common())
        raise NoUsableAnswers(
            f"{self.failed.total()} of {self.known + self.wanted} answers of model '{self.model.endpoint.model}' "
            f"are unusable: {counts}",
            where=f"the share that may fail is {self.asking.max_failed:g}",
            fix="improve the questions, use another model, or raise `max_failed`; usable answers are kept",
        )

    def _too_many_failed(self) -> bool:
        failed = self.failed.total()
        hopeless = not self.answered and not self.known and failed >= _FAILED_AT_FIRST and self.asking.max_failed < 1
        return hopeless or failed > self.asking.max_failed * (self.known + self.wanted)

    async def _work(self, session: Session, requests: Iterator[Request], kept: Commits) -> None:
        try:
            for request in requests:
                await self._send(session, request, kept)
                if self._stop is not None:
                    return
        except Exception as error:
            self._stop = self._stop or error  # the other workers finish their requests

    async def _send(self, session: Session, request: Request, kept: Commits) -> None:
        """Sends a request, and smaller ones for what it leaves unanswered."""
        if self._stop is not None:
            return
        reason = "malformed"
        try:
            found = self._keep(request, await self._answer(session, request))
        except LlmAnswerError as error:
            reason, found = error.reason, self._keep(request, CompletedAnswer(error.usable))
        except LlmUnreachable as error:
            for smaller in await self._lose(session, error, request):
                await self._send(session, smaller, kept)
            return
        except KommunaError as error:
            self._stop = self._stop or error
            return
        self._lost_in_a_row = 0
        await kept.commit()  # answers that cannot be stored are not worth their price
        if len(found) == request.size:
            return
        again = request.without(found)
        if not again:
            self._fail(reason)
        for smaller in again:
            await self._send(session, smaller, kept)

    async def _answer(self, session: Session, request: Request) -> CompletedAnswer:
        questions = [self.questions[number] for number in request.questions]
        return await session.complete(
            self.prompt.messages(request.texts, questions),
            answer_schema(len(request.texts), len(questions)),
            most_tokens=most_tokens(len(request.texts), len(questions)),
        )

    def _keep(self, request: Request, answer: CompletedAnswer) -> dict[tuple[int, int], int]:
        """Records the usable answers of a response, and returns them."""
        found = parsed_answers(answer.json, len(request.texts), len(request.questions))
        sure = confidences(answer.tokens, found) if answer.tokens else {}
        digests = [digest_of(text) for text in request.texts]
        self._rows += [(digests[i], request.questions[j], value, sure.get((i, j))) for (i, j), value in found.items()]
        self.answered += len(found)
        return found

    def _fail(self, reason: str) -> None:
        self.failed[reason] += 1
        try:
            self.check_share()
        except NoUsableAnswers as error:
            self._stop = self._stop or error

    async def _lose(self, session: Session, error: LlmUnreachable, request: Request) -> tuple[Request, ...]:
        """Returns a request for each message of a lost one, since one message may be what the endpoint fails at.

        A lost request with one message is counted. The run stops if the endpoint seems to be down: if it has answered
        no request yet and does not answer a harmless one, if several requests in a row are lost, or if more than the
        allowed share of answers fail. The error is that of the endpoint, since a retry of the step can succeed later.
        """
        again = tuple(Request((text,), request.questions) for text in request.texts) if len(request.texts) > 1 else ()
        if not again:
            self.failed["lost"] += request.size
        self._lost_in_a_row += 1
        too_many = self._lost_in_a_row >= _LOST_IN_A_ROW or self._too_many_failed()
        if too_many or not await session.responds():
            self._stop = self._stop or error
        return again

    def _unwritten(self) -> Callable[[], None]:
        """Returns the write of the answers that are not stored yet."""
        rows, self._written = self._rows[self._written :], len(self._rows)
        return partial(self._write, rows)

    def _write(self, rows: Sequence[AnswerRow]) -> None:
        if self.cache is None or not rows:
            return
        self._segments.append(self.cache.write(self._with_digests(rows)))
        self._small += rows
        if len(self._segments) >= MANY_SEGMENTS:
            self.cache.replace(self._segments, self._with_digests(self._small))
            self._segments, self._small = [], []

    def _with_digests(self, rows: Sequence[AnswerRow]) -> pl.DataFrame:
        """Returns answers as they are cached: with digests instead of the questions' positions."""
        digests = [digest_of(question) for question in self.questions]
        texts, numbers, answers, confidence = zip(*rows, strict=True)
        return pl.DataFrame(
            {"text": texts, "question": [digests[n] for n in numbers], "answer": answers, "confidence": confidence},
            schema={"text": pl.Binary, "question": pl.Binary, "answer": pl.Int8, "confidence": pl.Float32},
        )

    async def _report_periodically(self) -> None:
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


def requests_for(
    texts: Iterable[str], pending: dict[bytes, tuple[int, ...]], *, messages_per_request: int
) -> Iterator[Request]:
    """Groups messages with the same unanswered questions into requests.

    Args:
        texts: masked messages, in any order; a duplicate is requested once.
        pending: the unanswered questions by digest of the text; entries are removed as they are used.
        messages_per_request: the largest number of messages in a request; long messages share one with fewer.
    """
    waiting: dict[tuple[int, ...], list[str]] = {}
    for text in texts:
        questions = pending.pop(digest_of(text), ())
        if not questions:
            continue
        group = waiting.setdefault(questions, [])
        if group and sum(map(len, group)) + len(text) > _CHARACTERS_PER_REQUEST:
            yield from _split(group, questions)
            group.clear()
        group.append(text)
        if len(group) == messages_per_request:
            yield from _split(group, questions)
            group.clear()
    for questions, group in waiting.items():
        if group:
            yield from _split(group, questions)


def _split(texts: Sequence[str], questions: tuple[int, ...]) -> Iterator[Request]:
    """Yields requests about some messages with at most `QUESTIONS_PER_REQUEST` questions each."""
    for start in range(0, len(questions), QUESTIONS_PER_REQUEST):
        yield Request(tuple(texts), questions[start : start + QUESTIONS_PER_REQUEST])


def _table(rows: Sequence[AnswerRow]) -> pl.DataFrame:
    schema = {"text": pl.Binary, "question": pl.Int64, "answer": pl.Int8, "confidence": pl.Float32}
    return pl.DataFrame(rows, schema=schema, orient="row")
