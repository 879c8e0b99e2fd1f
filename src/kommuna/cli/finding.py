"""What `kommuna check` finds."""

from __future__ import annotations

from kommuna.spec.base import Spec


class Finding(Spec):
    """One thing to mend in a bundle."""

    file: str
    line: int
    what: str
    mend: str = ""


class Findings(Spec):
    """All of a bundle's."""

    findings: tuple[Finding, ...]
    files: int
    dags: int
    steps: int
