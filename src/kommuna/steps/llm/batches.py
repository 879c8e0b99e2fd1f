"""`Batches`: OpenAI's batches of one model, durable over kills: no request is sent in two batches.

```
<shared>/batches/<work>.<batch>.json   what a batch was sent for, from before it is sent until its answers are stored
```

The record is written first, then the batch's bound is recorded in the ledger, then the batch is submitted with the
record's name in its metadata. So an attempt that finds a record knows whether the server has its batch: by the id in
the record or, if the kill came before that was written, by the name in the server's list.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

import structlog
from pydantic import Field, ValidationError

from kommuna.errors import LlmAnswerError, LlmSettings, TeamBudgetSpent
from kommuna.spec.base import Spec
from kommuna.spec.step import StoreAddress
from kommuna.steps.llm.ledger import Billed
from kommuna.steps.llm.outgoing import Message
from kommuna.steps.llm.response import BrokenBody, CompletedAnswer, ErrorBody, answer_of, checked_completion, usage_of
from kommuna.steps.llm.session import Session
from kommuna.steps.llm.spending import Tokens
from kommuna.steps.shared_folder import SealedFolder

log = structlog.get_logger()

MOST_REQUESTS = 2_000  # of a batch; its results are read into memory

_NAME = "kommuna"  # of the batch's metadata
_POLL = 1.0  # seconds before the first look; each further pause is half as long again
_LONGEST_POLL = 60.0
_ENDED = ("completed", "expired", "cancelled", "failed")
_GONE = "gone"  # the server no longer knows the batch


class Item(Spec):
    """One request of a batch, without its texts.

    Attributes:
        about: what the request asks, in the words of who sends it: digests.
        prompt: the most tokens of its prompt.
        completion: the most tokens of its answer.
    """

    about: tuple[tuple[str, ...], ...]
    prompt: int = Field(ge=0)
    completion: int = Field(ge=0)

    @property
    def most(self) -> Tokens:
        """The most tokens that it may use."""
        return Tokens(self.prompt, self.completion)


class BatchRecord(Spec):
    """What one batch was sent for."""

    name: str
    month: str = Field(description="The month in UTC whose bill has it.")
    items: dict[str, Item]
    batch: str = Field("", description="The server's id; empty until it is known.")

    @property
    def most(self) -> Tokens:
        """The most tokens that all requests together may use."""
        return sum((item.most for item in self.items.values()), start=Tokens(0, 0))


@dataclass(frozen=True)
class BatchRequest:
    """One request of a batch.

    Attributes:
        about: what it asks, see `Item`.
        body: the body of the request.
        most: the most that it may use.
    """

    about: tuple[tuple[str, ...], ...]
    body: dict[str, Any]
    most: Tokens


@dataclass(frozen=True)
class Ended:
    """A batch that has ended.

    Attributes:
        record: its record.
        status: `completed`, `expired` or `cancelled`; `gone` if the server no longer knows it.
        answers: the usable answers, by the item's name.
        used: what it was billed.
        files: the server's files of it.
    """

    record: BatchRecord
    status: str
    answers: Mapping[str, CompletedAnswer]
    used: Billed
    files: tuple[str, ...]


class Batches:
    """Sends batches to one model, and waits for them.

    Args:
        session: the open session with the model.
        shared: the folder that the team's runs share.
    """

    def __init__(self, session: Session, shared: StoreAddress) -> None:
        self._session = session
        self._spending = session.spending
        self._folder = SealedFolder(shared, "batches", what="records of batches")
        self._ledger = session.spending.ledger

    async def open(self) -> AsyncIterator[BatchRecord]:
        """Yields the batches that earlier attempts at the same work have sent, and whose answers are not stored."""
        ending = f".{await asyncio.to_thread(lambda: self._work)}.json"
        for name in await asyncio.to_thread(self._folder.names, ending=ending):
            raw = (await asyncio.to_thread(self._folder.read, [name])).get(name)
            if raw is None:
                continue
            try:
                record = BatchRecord.model_validate_json(raw)
            except ValidationError:
                log.warning("batch.record_unreadable", file=name)
                continue
            self._spending.open_batch(record.name, record.month, self._bound(record))
            if not record.batch:
                found = await self._find(record.name)
                if found is None:  # the attempt was killed before it was submitted
                    await self._close(record, Billed())
                    continue
                record = await self._keep(record.model_copy(update={"batch": found}))
            log.info("batch.resumed", batch=record.batch, requests=len(record.items))
            yield record

    def request(
        self,
        about: tuple[tuple[str, ...], ...],
        messages: Sequence[Message],
        schema: dict[str, Any],
        *,
        most_tokens: int,
    ) -> BatchRequest:
        """Returns a request, masked as every request to an LLM.

        Args:
            about: what the request asks, in the words of who sends it: digests.
            messages: role and content.
            schema: JSON schema of the answer, an object.
            most_tokens: the most tokens that the answer may have.
        """
        body, most = self._session.body(messages, schema, most_tokens)
        return BatchRequest(about, body, most)

    async def submit(self, requests: Sequence[BatchRequest]) -> BatchRecord:
        """Sends a batch.

        Args:
            requests: at most `MOST_REQUESTS`.

        Raises:
            LlmSettings, LlmUnreachable: the server does not take it.
            TeamBudgetSpent: the team's budget has no room for it; it was not sent.
            StoreError: it cannot be recorded; it was not sent.
        """
        items = {
            f"r{number}": Item(about=request.about, prompt=request.most.prompt, completion=request.most.completion)
            for number, request in enumerate(requests)
        }
        record = await self._keep(BatchRecord(name=uuid.uuid4().hex, month=f"{datetime.now(UTC):%Y-%m}", items=items))
        bound = self._bound(record)
        self._spending.open_batch(record.name, record.month, bound)
        await asyncio.to_thread(self._spending.record_batch, record.name)
        try:
            await self._session.admit(bound)
        except TeamBudgetSpent:
            await self._close(record, Billed())
            raise
        lines = [
            {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": request.body}
            for name, request in zip(items, requests, strict=True)
        ]
        raw = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
        client, call = self._session.client, self._session.call
        file = await call(lambda: client.files.create(file=("requests.jsonl", raw), purpose="batch"))
        batch = await self._created(record.name, file.id)
        log.info("batch.submitted", batch=batch, requests=len(items), bound_tokens=bound.tokens)
        return await self._keep(record.model_copy(update={"batch": batch}))

    async def ended(self, record: BatchRecord) -> Ended:
        """Waits until a batch has ended, and returns its answers.

        Raises:
            LlmSettings: the server rejects the batch as a whole; nothing of it is billed.
            LlmUnreachable: the server does not answer. The batch stays open: the next attempt waits for it.
        """
        state = await self._state(record)
        if state is None:
            log.warning("batch.gone", batch=record.batch, hint="it counts with the most that it may have used")
            return Ended(record, _GONE, {}, self._bound(record), ())
        files = tuple(name for name in (state.output_file_id, state.error_file_id, state.input_file_id) if name)
        if state.status == "failed":
            await self.close(Ended(record, state.status, {}, Billed(), files))
            errors = getattr(state.errors, "data", None) or []
            raise LlmSettings(
                self._session.shown(
                    f"the LLM endpoint rejects the batch: {errors[0].message if errors else 'no reason'}"
                ),
                where=self._session.endpoint.url,
                fix="see the provider's limits of batches, or ask without: leave out `batch_from`",
            )
        client, call = self._session.client, self._session.call
        contents = []
        for name in (state.output_file_id, state.error_file_id):
            if name:
                response = await call(partial(client.files.content, name))
                contents.append(response.content)
        answers, used = self._read(record, b"\n".join(contents), completed=state.status == "completed")
        log.info(
            "batch.ended", batch=record.batch, status=state.status, answers=len(answers), requests=len(record.items)
        )
        return Ended(record, state.status, answers, used, files)

    async def close(self, ended: Ended) -> None:
        """Records what a batch was billed, and forgets it; its answers must be stored before.

        The server's files, which have the texts, are deleted.
        """
        await self._close(ended.record, ended.used)
        for name in ended.files:
            try:
                await self._session.client.files.delete(name)
            except Exception:  # it is the server's to keep or delete
                log.info("batch.file_not_deleted", file=name)

    async def _close(self, record: BatchRecord, used: Billed) -> None:
        self._spending.settle_batch(record.name, used)
        await asyncio.to_thread(self._spending.record_batch, record.name)
        await asyncio.to_thread(self._folder.remove, [self._file(record)])

    async def _keep(self, record: BatchRecord) -> BatchRecord:
        await asyncio.to_thread(self._folder.write, self._file(record), record.model_dump_json().encode())
        return record

    def _file(self, record: BatchRecord) -> str:
        return f"{record.name}.{self._work}.json"

    @property
    def _work(self) -> str:
        """Identifies the work, equal for a killed attempt and the next one."""
        return self._ledger.id if self._ledger is not None else "none"

    def _bound(self, record: BatchRecord) -> Billed:
        """Returns the most that a batch may be billed."""
        bill = self._spending.bill(record.most, len(record.items))
        return bill.model_copy(update={"lost": len(record.items)})

    async def _created(self, name: str, file: str) -> str:
        """Creates the batch; before it tries again it looks whether the server has it."""
        tried = False

        async def create() -> str:
            nonlocal tried
            known = await self._find(name) if tried else None
            tried = True
            if known is not None:
                return known
            batch = await self._session.client.batches.create(
                input_file_id=file,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={_NAME: name},
            )
            return str(batch.id)

        return await self._session.call(create)

    async def _find(self, name: str) -> str | None:
        """Returns the id of the server's batch with a name; None if it has none."""

        async def look() -> str | None:
            async for batch in self._session.client.batches.list(limit=100):
                if (batch.metadata or {}).get(_NAME) == name:
                    return str(batch.id)
            return None

        return await self._session.call(look)

    async def _state(self, record: BatchRecord) -> Any:
        """Returns the batch as the server shows it when it has ended; None if the server no longer knows it."""
        import openai

        async def look() -> Any:
            try:
                return await self._session.client.batches.retrieve(record.batch)
            except openai.NotFoundError:
                return None

        pause, began, said = _POLL, time.monotonic(), ""
        while True:
            state = await self._session.call(look)
            if state is None or state.status in _ENDED:
                return state
            if state.status != said:
                said = state.status
                seconds = round(time.monotonic() - began)
                log.info("batch.waiting", batch=record.batch, status=said, seconds=seconds)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_POLL)

    def _read(self, record: BatchRecord, raw: bytes, *, completed: bool) -> tuple[dict[str, CompletedAnswer], Billed]:
        """Returns the usable answers in result files, and what the batch was billed.

        A request that failed is not billed. A request without a result is not either if the batch did not complete;
        otherwise it counts with the most that it may have used.
        """
        answers: dict[str, CompletedAnswer] = {}
        tokens: dict[str, Tokens] = {}
        lost = 0
        for line in raw.splitlines():
            name, body = _result(line)
            if name not in record.items or name in tokens:
                continue
            most = record.items[name].most
            tokens[name] = Tokens(0, 0)
            if body is None:
                continue
            tokens[name] = usage_of(body, most)
            try:
                answers[name] = answer_of(checked_completion(body), self._session.endpoint)
            except (BrokenBody, ErrorBody):
                continue
            except LlmAnswerError as error:
                answers[name] = CompletedAnswer(error.usable)
        for name, item in record.items.items():
            if name not in tokens and completed:
                tokens[name], lost = item.most, lost + 1
        billed = [used for used in tokens.values() if used.total]
        bill = self._spending.bill(sum(billed, start=Tokens(0, 0)), len(billed))
        return answers, bill.model_copy(update={"lost": lost})


def _result(line: bytes) -> tuple[str, dict[str, Any] | None]:
    """Returns the name of a request and the body of its completion; None for the body if it failed."""
    try:
        result = json.loads(line)
        name, response = str(result["custom_id"]), result.get("response")
        succeeded = isinstance(response, dict) and response.get("status_code") == 200
        body = response.get("body") if succeeded else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return "", None
    return name, body if isinstance(body, dict) else None
