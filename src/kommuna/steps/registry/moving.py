"""Changes the champion of a registered model: one change at a time, over all DAGs and people that use Kommuna.

MLflow has no conditional write, but each read of a model shows all of its tags. Who wants to change the champion writes
a claim, a tag of its own, and reads all claims: if there is another one that has not ended, it takes its own away and
tries again. Of two claims the later one sees the earlier one, so that at most one is held. See
docs/decisions/0026-promotion.md.
"""

from __future__ import annotations

import contextlib
import random
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime

import structlog

from kommuna.errors import RegistryError
from kommuna.spec.base import Spec
from kommuna.steps.registry.client import Registry
from kommuna.steps.registry.model_version import CHAMPION, ModelVersion
from kommuna.steps.registry.standing import CLAIM, HISTORY, PIN, SET, Action, Decision, Pin, Standing, history_text
from kommuna.waiting import wait_until

log = structlog.get_logger()

LEASE_SECONDS = 120.0  # of a claim whose holder was killed; a change takes less than a second
_PATIENCE_SECONDS = 240.0
_SPARE_SECONDS = 30.0  # a holder with less time left does not move the alias


class Claim(Spec):
    """The right to change a model's champion."""

    by: str
    until: float
    to: str = ""


class Mover:
    """Holds the claim on a model's champion, and changes it.

    Args:
        registry: the team's registry.
        standing: the champion and its pin, as read under the claim.
        tag: the claim's tag.
        claim: the claim.

    Attributes:
        standing: the champion and its pin, as read under the claim.
    """

    def __init__(self, registry: Registry, standing: Standing, tag: str, claim: Claim) -> None:
        self._registry = registry
        self._tag = tag
        self._claim = claim
        self.standing = standing

    def move(self, version: ModelVersion, *, by: str, action: Action, reason: str) -> None:
        """Gives the alias to a version, and records it.

        Args:
            version: the version.
            by: the person, or the task whose gate decided.
            action: what is recorded.
            reason: the sentence of the decision.

        Raises:
            RegistryError: MLflow refuses, or the claim has ended meanwhile; the champion is then unchanged.
        """
        name, before = self.standing.name, self.standing.version
        self._claim = self._claim.model_copy(update={"to": version.version})
        self._registry.set_model_tag(name, self._tag, self._claim.model_dump_json())
        if time.time() > self._claim.until - _SPARE_SECONDS:
            raise RegistryError(f"the registry was too slow to change the champion of '{name}'", fix="try again")
        if before != version.version:
            self._registry.set_alias(version, CHAMPION)
        self._registry.set_model_tag(name, SET, version.version)
        self.record(by=by, action=action, after=version.version, reason=reason)

    def pin(self, pin: Pin) -> None:
        """Writes a pin."""
        self._registry.set_model_tag(self.standing.name, PIN, pin.model_dump_json())

    def unpin(self) -> None:
        """Lets the gate decide again, from the present champion on."""
        self._registry.drop_model_tag(self.standing.name, PIN)
        if self.standing.version:
            self._registry.set_model_tag(self.standing.name, SET, self.standing.version)
        else:
            self._registry.drop_model_tag(self.standing.name, SET)

    def record(self, *, by: str, action: Action, after: str, reason: str) -> None:
        """Appends a decision to the model's history.

        Args:
            by: the person, or the task whose gate decided.
            action: what was done.
            after: the champion's version from now on.
            reason: the sentence of the decision.
        """
        now, before = datetime.now(UTC).replace(microsecond=0), self.standing.version
        one = Decision(at=now, by=by, action=action, before=before, after=after, reason=reason)
        text = history_text((*self.standing.history, one))
        self._registry.set_model_tag(self.standing.name, HISTORY, text)
        log.info("champion.decided", name=self.standing.name, **one.model_dump(mode="json"))


@contextlib.contextmanager
def only_mover(registry: Registry, name: str, *, by: str, patience: float = _PATIENCE_SECONDS) -> Iterator[Mover]:
    """Waits until nobody else changes the champion of a model, and holds the claim on it.

    Args:
        registry: the team's registry.
        name: the registered model.
        by: who changes it: a person or a task.
        patience: the longest wait, in seconds.

    Raises:
        RegistryError: somebody else holds the claim for too long; worth a retry.
        SpecError: there is no such model.
    """
    tag = f"{CLAIM}{uuid.uuid4().hex[:12]}"
    holder = "somebody"

    def claimed() -> tuple[Claim, Standing, dict[str, Claim]] | None:
        nonlocal holder
        claim = Claim(by=by, until=time.time() + LEASE_SECONDS)
        try:
            registry.set_model_tag(name, tag, claim.model_dump_json())
            standing = registry.standing(name)
        except BaseException:
            _drop(registry, name, tag)
            raise
        others = {key: _claim(text) for key, text in standing.claims.items() if key != tag}
        alive = [other for other in others.values() if other.until > time.time()]
        if not alive:
            return claim, standing, others
        holder = alive[0].by
        _drop(registry, name, tag)
        return None

    found = wait_until(
        f"nobody else changes the champion of '{name}'",
        claimed,
        seconds=patience,
        every=random.uniform(0.1, 0.5),  # two that meet again and again do not go in step
        late=lambda: RegistryError(f"{holder} is changing the champion of '{name}' for too long", fix="try again"),
    )
    assert found is not None
    claim, standing, others = found
    try:
        yield Mover(registry, _after_kills(registry, standing, others), tag, claim)
    finally:
        _drop(registry, name, tag)


def _after_kills(registry: Registry, standing: Standing, ended: dict[str, Claim]) -> Standing:
    """Completes what the holders of ended claims had begun, and removes the claims."""
    for tag, claim in ended.items():
        if claim.to and claim.to == standing.version != standing.set_to:  # killed after it had moved the alias
            registry.set_model_tag(standing.name, SET, claim.to)
            standing = standing.model_copy(update={"set_to": claim.to, "is_set_there": True})
        _drop(registry, standing.name, tag)
    return standing


def _claim(text: str) -> Claim:
    with contextlib.suppress(ValueError):
        return Claim.model_validate_json(text)
    return Claim(by="somebody", until=0)


def _drop(registry: Registry, name: str, tag: str) -> None:
    """Removes a claim; one that stays ends by itself."""
    try:
        registry.drop_model_tag(name, tag)
    except RegistryError as error:
        log.warning("claim.left", name=name, reason=error.what)
