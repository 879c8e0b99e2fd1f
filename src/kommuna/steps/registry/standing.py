"""`Standing`: the champion of a registered model, who set it, and whether a person has pinned it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

from pydantic import Field, ValidationError

from kommuna.spec.base import Spec
from kommuna.steps.registry.model_version import CHAMPION, ModelVersion

# Tags of the registered model.
PIN = "kommuna.pin"
SET = "kommuna.champion"  # the version that the platform last gave the alias to
HISTORY = "kommuna.history"
CLAIM = "kommuna.claim."  # and the name of who holds it
TAG_CHARACTERS = 4900  # MLflow's database keeps 5,000 of a registered model's tag
REASON_CHARACTERS = 200  # of each decision in the history; the version's own tag has all

Action = Literal["promoted", "rolled back", "pinned", "unpinned"]


class Pin(Spec):
    """A person's decision that a version stays the champion."""

    version: str
    by: str
    reason: str
    at: datetime
    until: datetime | None = Field(None, description="When the gate decides again; a person must unpin it if None.")

    def holds(self, now: datetime) -> bool:
        """Whether the pin still applies."""
        return self.until is None or now < self.until

    def __str__(self) -> str:
        until = f" until {self.until:%Y-%m-%d %H:%M} UTC" if self.until else ""
        return f"{self.by} pinned version {self.version}{until}: {self.reason}"


class Decision(Spec):
    """One change of the champion, or of its pin."""

    at: datetime
    by: str = Field(description="A person, or the task whose gate decided.")
    action: Action
    before: str = Field("", description="The champion's version before; empty if there was none.")
    after: str = ""
    reason: str = ""


class Standing(Spec):
    """The champion of one registered model.

    Attributes:
        champion: the version with the alias `champion`.
        set_to: the version that the platform last gave the alias to; empty if it never did.
        is_set_there: whether that version still exists.
        pin: the person's decision, also one that has ended.
        history: the latest decisions, the oldest first.
        claims: who is changing the champion, by tag.
    """

    name: str
    champion: ModelVersion | None = None
    set_to: str = ""
    is_set_there: bool = True
    pin: Pin | None = None
    history: tuple[Decision, ...] = ()
    claims: dict[str, str] = Field(default_factory=dict)

    @property
    def version(self) -> str:
        """The champion's version; empty if there is none."""
        return self.champion.version if self.champion else ""

    @property
    def moved_by_hand(self) -> str:
        """How a person moved the alias in MLflow itself, in words; empty if nobody did.

        A champion that was deleted took its alias with it: that is no decision about another version.
        """
        if not self.set_to or self.set_to == self.version or (not self.version and not self.is_set_there):
            return ""
        if not self.version:
            return f"the alias '{CHAMPION}' was taken from version {self.set_to} by hand"
        return f"version {self.version} was made champion by hand, after version {self.set_to}"

    def held(self, now: datetime | None = None) -> str:
        """Why no gate may change the champion now, in words; empty if it may."""
        unpin = f"a person lifts it with `kommuna models unpin {self.name}`"
        if self.pin is not None and self.pin.holds(now or datetime.now(UTC)):
            return f"{self.pin}; {unpin}"
        return f"{self.moved_by_hand}; {unpin}" if self.moved_by_hand else ""


def pin_of(tags: Mapping[str, str]) -> Pin | None:
    """Reads a model's pin. A tag that cannot be read is a pin, too: somebody wrote it."""
    if PIN not in tags:
        return None
    try:
        return Pin.model_validate_json(tags[PIN])
    except ValidationError:
        return Pin(version="?", by="somebody", reason=tags[PIN][:200], at=datetime.fromtimestamp(0, UTC))


def history_of(tags: Mapping[str, str]) -> tuple[Decision, ...]:
    """Reads a model's history; what cannot be read is left out."""
    found = []
    for line in tags.get(HISTORY, "").splitlines():
        try:
            found.append(Decision.model_validate_json(line))
        except ValidationError:
            continue
    return tuple(found)


def history_text(history: tuple[Decision, ...]) -> str:
    """Writes the latest decisions, one per line, as many as a tag holds."""
    lines: list[str] = []
    left = TAG_CHARACTERS
    for one in reversed(history):
        reason = one.reason if len(one.reason) <= REASON_CHARACTERS else f"{one.reason[: REASON_CHARACTERS - 1]}…"
        line = one.model_copy(update={"reason": reason}).model_dump_json(exclude_defaults=True)
        left -= len(line) + 1
        if left < 0:
            break
        lines.insert(0, line)
    return "\n".join(lines)
