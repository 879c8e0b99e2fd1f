"""What people decide about a champion: pin it, go back to a former one, let the gate decide again."""

from __future__ import annotations

from datetime import UTC, datetime

from kommuna.errors import SpecError
from kommuna.steps.registry import model_version as tags
from kommuna.steps.registry.client import Registry
from kommuna.steps.registry.model_version import ModelVersion
from kommuna.steps.registry.moving import Mover, only_mover
from kommuna.steps.registry.standing import Action, Pin, Standing

MOST_CHARACTERS = 1000  # of a reason


def pin(
    registry: Registry, name: str, *, version: str = "", by: str, reason: str, until: datetime | None = None
) -> Standing:
    """Makes a version the champion, and keeps every gate from changing that.

    Args:
        registry: the team's registry.
        name: the registered model.
        version: the version; the present champion if empty.
        by: the person.
        reason: why, for those who see the pin.
        until: when the gate decides again; None if a person must unpin it.

    Raises:
        SpecError: there is no such model or version, no reason, or the time is over.
    """
    _require(reason, until)
    with only_mover(registry, name, by=by) as mover:
        wanted = _version(registry, name, version) if version else mover.standing.champion
        if wanted is None:
            raise SpecError(f"'{name}' has no champion to pin", fix="name a version: `kommuna models list NAME`")
        _move_and_pin(registry, mover, wanted, action="pinned", by=by, reason=reason, until=until)
    return registry.standing(name)


def rollback(
    registry: Registry, name: str, *, version: str = "", by: str, reason: str, until: datetime | None = None
) -> Standing:
    """Makes a former version the champion again, and pins it: otherwise the next run would undo it.

    Args:
        registry: the team's registry.
        name: the registered model.
        version: the version; the champion before the present one if empty.
        by: the person.
        reason: why.
        until: when the gate decides again; None if a person must unpin it.

    Raises:
        SpecError: there is no such model or version, no former champion, no reason, or the time is over.
    """
    _require(reason, until)
    with only_mover(registry, name, by=by) as mover:
        number = version or _former(mover.standing)
        if number == mover.standing.version:
            raise SpecError(f"version {number} of '{name}' is the champion", fix="name another one, or pin this one")
        wanted = _version(registry, name, number)
        _move_and_pin(registry, mover, wanted, action="rolled back", by=by, reason=reason, until=until)
    return registry.standing(name)


def unpin(registry: Registry, name: str, *, by: str, reason: str = "") -> Standing:
    """Lets the gate decide again, from the present champion on, after a pin or a move by hand.

    Args:
        registry: the team's registry.
        name: the registered model.
        by: the person.
        reason: why, for the history.

    Raises:
        SpecError: there is no such model, or nothing holds its champion.
    """
    with only_mover(registry, name, by=by) as mover:
        if mover.standing.pin is None and not mover.standing.moved_by_hand:
            raise SpecError(f"'{name}' is not pinned", fix="`kommuna models list` shows the pins")
        mover.unpin()
        mover.record(by=by, action="unpinned", after=mover.standing.version, reason=reason)
    return registry.standing(name)


def _move_and_pin(
    registry: Registry,
    mover: Mover,
    wanted: ModelVersion,
    *,
    action: Action,
    by: str,
    reason: str,
    until: datetime | None,
) -> None:
    now, former = datetime.now(UTC).replace(microsecond=0), mover.standing.champion
    # The pin comes first: if this ends in between, no gate undoes a half of it.
    mover.pin(Pin(version=wanted.version, by=by, reason=reason, at=now, until=until))
    mover.move(wanted, by=by, action=action, reason=reason)
    decided = {tags.REASON: reason, tags.DECIDED_BY: by, tags.DECIDED_AT: f"{now:%Y-%m-%d %H:%M:%S} UTC"}
    registry.set_version_tags(wanted, {tags.VERDICT: "pinned", **decided})
    if former is not None and former.version != wanted.version:
        registry.set_version_tags(
            former, {tags.VERDICT: "rolled back" if action == "rolled back" else "replaced", **decided}
        )


def _former(standing: Standing) -> str:
    for one in reversed(standing.history):
        if one.after == standing.version and one.before not in ("", standing.version):
            return one.before
    raise SpecError(
        f"no former champion of '{standing.name}' is recorded",
        fix="name the version: `--to 3`, see `kommuna models list`",
    )


def _version(registry: Registry, name: str, number: str) -> ModelVersion:
    found = registry.version(name, number)
    if found is None:
        numbers = ", ".join(one.version for one in registry.versions(name)[:20])
        raise SpecError(f"'{name}' has no version {number}", fix=f"its versions are: {numbers or 'none'}")
    return found


def _require(reason: str, until: datetime | None) -> None:
    if not reason.strip():
        raise SpecError("a pin needs a reason", fix='say why: --reason "complaints about fees"')
    if len(reason) > MOST_CHARACTERS:
        raise SpecError(f"the reason has {len(reason)} characters, more than {MOST_CHARACTERS}", fix="say it shortly")
    if until is not None and until <= datetime.now(UTC):
        raise SpecError(f"{until:%Y-%m-%d %H:%M} UTC is over", fix="give a time to come, or none")
