"""`Failure`: an error as data, as it crosses from one process to another."""

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
    """What an error says, field by field."""

    kind: str = Field(description="Name of the error's class in `kommuna.errors`.")
    what: str
    where: str = ""
    fix: str = ""
    details: dict[str, str] = Field(default_factory=dict, description="Further texts of that class, by name.")

    @classmethod
    def of(cls, error: KommunaError) -> Self:
        """The fields of an error. A class that another process may not have is named by its nearest known ancestor."""
        kind = _known_kind(error)
        return cls(
            kind=kind.__name__,
            what=readable(error.what),
            where=readable(error.where),
            fix=readable(error.fix),
            details={name: readable(str(getattr(error, name))) for name in kind.details},
        )

    def error(self) -> KommunaError:
        """The error itself, to be raised."""
        kind = _KINDS.get(self.kind, PlatformFault)
        details = {name: self.details.get(name, "") for name in kind.details}
        return kind(self.what, where=self.where, fix=self.fix, **details)

    def within(self, limit: int) -> Self:
        """The same with the ends of its longest texts cut off, so that its JSON has at most so many bytes.

        Args:
            limit: bytes.
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
    """The nearest class of the error's ancestors that every process has, of the same exit code."""
    known = (kind for kind in type(error).__mro__ if _KINDS.get(kind.__name__) is kind)
    nearest = next(kind for kind in known if issubclass(kind, KommunaError))
    if nearest.exit_code == error.exit_code:
        return nearest
    return _BRANCHES.get(error.exit_code, PlatformFault)
