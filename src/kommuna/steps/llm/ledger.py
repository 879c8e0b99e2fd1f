"""`Ledger`: what requests to LLMs were billed, durable over kills, in the folder that the team's runs share.

```
<shared>/spending/<month>.<work>.<attempt>.json   what one attempt at a step's work was billed in a month
<shared>/spending/<question>.done                 replaced by the runtime when the work's manifest is stored
```

Each attempt has files of its own, one per month (UTC), and replaces them as a whole: no two processes write the same
file. A file has two parts: requests that were answered, and the upper bound of requests that may have been sent and
whose answers are not known. A request is sent only after a file that contains its bound is durable, so a kill never
loses a request that may be billed. The bound of a killed attempt's open requests counts as billed for ever.

A batch has a file of its own, too, named like that of an attempt: the attempt that receives its answers replaces the
bound by what they were billed, whichever attempt has sent it.

A team's bill of a month is the sum of that month's files (`billed_in`).
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import Callable, Collection, Iterable
from datetime import UTC, datetime
from functools import cached_property

from pydantic import Field, ValidationError

from kommuna.errors import StoreError
from kommuna.spec.base import Spec
from kommuna.spec.llm import SPENDING, done_name
from kommuna.spec.step import StoreAddress
from kommuna.steps.shared_folder import SharedFolder


class Billed(Spec):
    """What some requests were billed."""

    requests: int = Field(0, ge=0)
    lost: int = Field(0, ge=0, description="Of these, requests without a known answer, which count at their bound.")
    prompt_tokens: int = Field(0, ge=0)
    completion_tokens: int = Field(0, ge=0)
    money: float = Field(0.0, ge=0, description="In the currency of the endpoint's prices.")

    @property
    def tokens(self) -> int:
        """Prompt and completion tokens together."""
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Billed) -> Billed:
        """Returns the bill of both."""
        mine, its = self.model_dump(), other.model_dump()
        return Billed(**{name: value + its[name] for name, value in mine.items()})

    def minus(self, other: Billed) -> Billed:
        """Returns the rest of this bill without a part of it."""
        mine, its = self.model_dump(), other.model_dump()
        return Billed(**{name: max(value - its[name], 0) for name, value in mine.items()})


class Entry(Spec):
    """The content of one file: what one attempt was billed in one month."""

    model: str
    url: str
    attempt: str = Field("", description="Identifies the attempt.")
    run: str = Field("", description="The DAG run of the attempt; empty without one.")
    settled: Billed = Field(default_factory=Billed, description="Requests whose outcome is known.")
    open: Billed = Field(default_factory=Billed, description="The upper bound of requests that may have been sent.")

    @property
    def billed(self) -> Billed:
        """All that the attempt may have been billed."""
        return self.settled + self.open


class Ledger:
    """Records what one attempt at a piece of work is billed, and knows what earlier attempts were.

    Args:
        address: the folder that the team's runs share; None: nothing is recorded, and there are no earlier attempts.
        work: identifies the work, equal for a killed step and its retry (`Services.work`); empty: there are no earlier
            attempts.
        part: the part of the work, such as the model's role; each has its own sum.
        model: the model's name.
        url: the endpoint.
        run: the DAG run.
    """

    def __init__(
        self, address: StoreAddress | None, work: str = "", *, part: str = "", model: str, url: str, run: str = ""
    ) -> None:
        self._folder = _folder(address) if address is not None else None
        self._work, self._part = work, part
        self._model, self._url, self._run = model, url, run
        self.attempt = uuid.uuid4().hex
        self._month = ""
        self._before = self._last = Billed()  # of this attempt: in earlier months, and at the last write

    def earlier(self, *, but: Collection[str] = ()) -> Billed:
        """Returns what earlier attempts at the work were billed, up to the last one that stored its result.

        Args:
            but: attempts to leave out.

        Raises:
            StoreError: the store cannot be read, or a record is damaged.
        """
        return total(entry.billed for entry in self._earlier if entry.attempt not in but)

    @cached_property
    def _earlier(self) -> list[Entry]:
        if self._folder is None or not self._work:
            return []
        mark = f".{self.id}."
        names = [name for name in self._folder.names(ending=".json") if mark in name and self.attempt not in name]
        return list(_entries(self._folder, names))

    def write(self, settled: Billed, bound: Billed) -> None:
        """Records what this attempt was billed so far; it is durable when the call returns.

        Args:
            settled: requests of the attempt whose outcome is known.
            bound: the upper bound of its requests in flight, and of those that are about to be sent.

        Raises:
            StoreError: the store cannot be written.
        """
        if self._folder is None or not (self._month or settled.requests or bound.requests):
            return
        month = f"{datetime.now(UTC):%Y-%m}"
        if month != self._month and self._month:
            self._write(self._month, self._last.minus(self._before), Billed())  # what was open is settled in this month
            self._before = self._last
        self._month, self._last = month, settled
        self._write(month, settled.minus(self._before), bound)

    def write_batch(self, name: str, month: str, settled: Billed, bound: Billed) -> None:
        """Records what a batch was billed, or its bound; it is durable when the call returns.

        Args:
            name: identifies the batch.
            month: the month, in UTC, in which it was sent.
            settled: its requests whose outcome is known.
            bound: the upper bound of the others.

        Raises:
            StoreError: the store cannot be written.
        """
        if self._folder is not None:
            self._write(month, settled, bound, attempt=name)

    @cached_property
    def id(self) -> str:
        """Identifies the part of the work since its last stored result."""
        assert self._folder is not None
        done = done_name(self._work)
        last = self._folder.read([done]).get(done, b"") if self._work else uuid.uuid4().bytes
        return hashlib.sha256(b"\0".join([self._work.encode(), self._part.encode(), last])).hexdigest()[:32]

    def _write(self, month: str, settled: Billed, bound: Billed, *, attempt: str = "") -> None:
        assert self._folder is not None
        attempt = attempt or self.attempt
        entry = Entry(model=self._model, url=self._url, attempt=attempt, run=self._run, settled=settled, open=bound)
        self._folder.write(f"{month}.{self.id}.{attempt}.json", entry.model_dump_json().encode())


class Commits:
    """Runs one write at a time for all who wait for it: those who come during a write share the next one.

    Args:
        prepare: returns the write of the present state, which then runs in a thread.
    """

    def __init__(self, prepare: Callable[[], Callable[[], None]]) -> None:
        self._prepare = prepare
        self._running: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None

    async def commit(self) -> None:
        """Returns when a write that began after this call has ended."""
        if self._next is None:
            self._next = asyncio.create_task(self._write_after(self._running))
        await asyncio.shield(self._next)

    async def _write_after(self, earlier: asyncio.Task[None] | None) -> None:
        if earlier is not None:
            await asyncio.wait([earlier])
        self._running, self._next = self._next, None
        await asyncio.to_thread(self._prepare())


def billed_in(address: StoreAddress, month: str) -> list[Entry]:
    """Returns what the team's steps were billed in a month, finished and running ones.

    Args:
        address: the folder that the team's runs share.
        month: the month in UTC, as in `2026-11`.

    Raises:
        StoreError: the store cannot be read, or a record is damaged.
    """
    folder = _folder(address)
    names = [name for name in folder.names(ending=".json") if name.startswith(f"{month}.")]
    return list(_entries(folder, names))


def total(bills: Iterable[Billed]) -> Billed:
    """Returns the sum of some bills."""
    return sum(bills, start=Billed())


def _folder(address: StoreAddress) -> SharedFolder:
    return SharedFolder(address, SPENDING, what="records of LLM spending")


def _entries(folder: SharedFolder, names: list[str]) -> Iterable[Entry]:
    for name, raw in folder.read(names).items():
        try:
            yield Entry.model_validate_json(raw)
        except ValidationError:
            raise StoreError(
                f"the record of LLM spending {name} is damaged",
                where=f"{SPENDING} in the folder that the team's runs share",
                fix="restore it from a backup, or remove it: then its tokens and money no longer count",
            ) from None
