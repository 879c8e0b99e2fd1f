"""Asks questions by batches: what a batch answers is stored with all other answers, and found there."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import polars as pl
import structlog

from kommuna.errors import LlmSettings
from kommuna.spec.step import StoreAddress
from kommuna.steps.labeling.rules.ask.answer_cache import AnswerCache, digest_of
from kommuna.steps.labeling.rules.ask.confidence import confidences
from kommuna.steps.labeling.rules.ask.prompt import Prompt, answer_schema, most_tokens, parsed_answers
from kommuna.steps.labeling.rules.ask.requests import Request
from kommuna.steps.llm.batches import MOST_REQUESTS, Batches, BatchRecord, BatchRequest
from kommuna.steps.llm.client import Model
from kommuna.steps.llm.session import Session
from kommuna.steps.llm.spending import Tokens

log = structlog.get_logger()


class BatchedQuestions:
    """Sends requests as batches, and stores what they answer.

    A request that a batch does not answer is left to those who ask one by one.

    Args:
        model: the model, with its budget.
        prompt: the instructions.
        questions: all questions; requests name them by position.
        cache: where answers are stored.
        shared: the folder that the team's runs share.
    """

    def __init__(
        self, model: Model, prompt: Prompt, questions: Sequence[str], cache: AnswerCache, shared: StoreAddress
    ) -> None:
        self._model, self._prompt, self._questions = model, prompt, questions
        self._cache, self._shared = cache, shared

    async def finish(self) -> None:
        """Waits for the batches that earlier attempts at the same work have sent, and stores their answers."""
        async with self._model.session(logprobs=True) as session:
            batches = Batches(session, self._shared)
            async for record in batches.open():
                await self._store(batches, record)

    async def send(self, requests: Iterator[Request]) -> None:
        """Sends requests as batches as far as the budgets allow, waits for them, and stores their answers.

        An endpoint without batches is sent nothing.

        Args:
            requests: the requests.
        """
        async with self._model.session(logprobs=True) as session:
            if not await self._may_send(session):
                return
            batches = Batches(session, self._shared)
            sent: list[BatchRecord] = []
            part, most = list[BatchRequest](), Tokens(0, 0)
            for request in requests:
                one = self._request(batches, request)
                if part and (len(part) == MOST_REQUESTS or not session.spending.fits(most + one.most)):
                    sent.append(await batches.submit(part))
                    part, most = [], Tokens(0, 0)
                if not session.spending.fits(most + one.most):  # until the batches are billed less than their bound
                    await self._store_all(batches, sent)
                    sent = []
                    if not session.spending.fits(one.most):
                        break
                part.append(one)
                most += one.most
            if part:
                sent.append(await batches.submit(part))
            await self._store_all(batches, sent)

    async def _may_send(self, session: Session) -> bool:
        if not await session.has_batches():
            log.warning("ask.no_batches", url=session.endpoint.url, hint="the endpoint has none: asked one by one")
            return False
        if session.spending.allowance is not None:
            await asyncio.to_thread(session.spending.allowance.refresh)
        return await session.responds()  # so the form of requests is known

    def _request(self, batches: Batches, request: Request) -> BatchRequest:
        questions = [self._questions[number] for number in request.questions]
        about = tuple(tuple(digest_of(text).hex() for text in texts) for texts in (request.texts, questions))
        return batches.request(
            about,
            self._prompt.messages(request.texts, questions),
            answer_schema(len(request.texts), len(questions)),
            most_tokens=most_tokens(len(request.texts), len(questions)),
        )

    async def _store_all(self, batches: Batches, records: Sequence[BatchRecord]) -> None:
        for record in records:
            await self._store(batches, record)

    async def _store(self, batches: Batches, record: BatchRecord) -> None:
        """Waits for a batch and stores its answers.

        Raises:
            LlmSettings: somebody has cancelled it, or the server rejects it.
        """
        ended = await batches.ended(record)
        rows = []
        for name, answer in ended.answers.items():
            texts, questions = record.items[name].about
            found = parsed_answers(answer.json, len(texts), len(questions))
            sure = confidences(answer.tokens, found) if answer.tokens else {}
            rows += [
                (bytes.fromhex(texts[i]), bytes.fromhex(questions[j]), value, sure.get((i, j)))
                for (i, j), value in found.items()
            ]
        if rows:
            schema = {"text": pl.Binary, "question": pl.Binary, "answer": pl.Int8, "confidence": pl.Float32}
            await asyncio.to_thread(self._cache.write, pl.DataFrame(rows, schema=schema, orient="row"))
        await batches.close(ended)
        if ended.status == "cancelled":
            raise LlmSettings(
                f"the batch {record.batch} was cancelled: {len(ended.answers)} of {len(record.items)} requests were "
                "answered",
                where=self._model.endpoint.url,
                fix="run the step again to ask the rest; the answers so far are kept",
            )
