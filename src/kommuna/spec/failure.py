"""`Failure`: an error as data, which one process passes to another."""

from __future__ import annotations

from typing import Self

from pydantic import Field

from kommuna import errors
from kommuna.errors import EXIT_LIMIT, EXIT_MISTAKE, KommunaError, LimitExceeded, PlatformFault, TeamMistake
from kommuna.spec.base import Spec
from kommuna.spec.plain import readable

_KINDS: dict[str, type[KommunaError]] = {
    name: kind for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, KommunaError)
}
_BRANCHES: dict[int, type[KommunaError]] = {EXIT_MISTAKE: TeamMistake, EXIT_LIMIT: LimitExceeded}


class Failure(Spec):
    """The fields of an error."""

    kind: str = Field(description="Name of the error's class in `kommuna.errors`.")
    what: str
    where: str = ""
    fix: str = ""
    details: dict[str, str] = Field(default_factory=dict, description="Further texts of that class, by name.")

    @classmethod
    def of(cls, error: KommunaError) -> Self:
        """Converts an error to data; a class that other processes may not have becomes its nearest known ancestor."""
        kind = _known_kind(error)
        return cls(
            kind=kind.__name__,
            what=readable(error.what),
            where=readable(error.where),
            fix=readable(error.fix),
            details={name: readable(str(getattr(error, name))) for name in kind.details},
        )

    def error(self) -> KommunaError:
        """Converts the data back to an error that can be raised."""
        kind = _KINDS.get(self.kind, PlatformFault)
        details = {name: self.details.get(name, "") for name in kind.details}
        return kind(self.what, where=self.where, fix=self.fix, **details)

    def within(self, limit: int) -> Self:
        """Shortens the longest texts until the failure's JSON fits a limit.

        Args:
            limit: maximum size of the JSON, in bytes.
        """
        found = self
        while len(found.model_dump_json().encode()) > limit:
            name, text = max((("what", found.what), ("where", found.where), ("fix", found.fix)), key=_length)
            if len(text) < 10:
                break
            found = found.model_copy(update={name: f"{text[: len(text) * 3 // 4]}…"})
        return found


def _length(named: tuple[str, str]) -> int:
    return len(named[1])


def _known_kind(error: KommunaError) -> type[KommunaError]:
    """Returns the error's nearest ancestor class that every process has and that has the same exit code."""
    known = (kind for kind in type(error).__mro__ if _KINDS.get(kind.__name__) is kind)
    nearest = next(kind for kind in known if issubclass(kind, KommunaError))
    if nearest.exit_code == error.exit_code:
        return nearest
    return _BRANCHES.get(error.exit_code, PlatformFault)
