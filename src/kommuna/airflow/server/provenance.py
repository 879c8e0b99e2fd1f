"""Adds a header to a report as it is served: who made it, when and from what.

An artifact is addressed by its content, so the same report made twice is one file; only the manifests differ.
"""

from __future__ import annotations

import re

from markupsafe import Markup

from kommuna.store import Manifest
from kommuna.store.manifest import Lineage

_BODY = re.compile(rb"<body[^>]*>", re.IGNORECASE)
_STYLE = "font: 13px/1.5 system-ui, sans-serif; color: #6b7686; margin-bottom: 1.5rem; overflow-wrap: anywhere"


def with_provenance(report: bytes, manifest: Manifest) -> bytes:
    """Returns the report's HTML with the header first in the body."""
    body = _BODY.search(report)
    at = body.end() if body else 0
    return report[:at] + str(_header(manifest)).encode() + report[at:]


def _header(manifest: Manifest) -> Markup:
    facts = [
        ("team", manifest.team),
        ("DAG", manifest.dag_id),
        ("task", manifest.task_id),
        ("run", manifest.run_id),
        ("made", f"{manifest.started:%Y-%m-%d %H:%M:%S} UTC"),
        ("step", manifest.function),
        ("Kommuna", manifest.version),
        ("manifest", manifest.key[:12]),
    ]
    lines = [Markup(" · ").join(Markup("{} <b>{}</b>").format(name, value) for name, value in facts if value)]
    if manifest.lineage:
        lines.append(Markup("from ") + Markup(" · ").join(_input(line) for line in manifest.lineage))
    return Markup('<header style="{}">{}</header>').format(_STYLE, Markup("<br>").join(lines))


def _input(line: Lineage) -> Markup:
    """Describes an input: a file, a registered model or the output of an earlier step, and its digest if known."""
    source = line.source or (f"{line.output} of {line.manifest[:12]}" if line.manifest else "")
    digest = "" if line.digest == "none" else line.digest[:12]
    return Markup("{} <b>{}</b> {}").format(line.input, source, digest)
