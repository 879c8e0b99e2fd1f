"""Kommuna's pages inside Airflow's server: reports and manifests, behind Airflow's login and the user's team.

A report is written by a team's code, so it is served in a sandbox: it may draw, but has no origin, no cookie and no
network.
"""

from __future__ import annotations

import functools
import re

from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import Depends, FastAPI, HTTPException, Response

from kommuna.errors import KommunaError
from kommuna.spec.installation import find_installation
from kommuna.spec.names import owner_of
from kommuna.store import Artifact, Store

_SANDBOX = (
    "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
)
_ARTIFACT = re.compile(r"^([0-9a-f]{64})(\.html|\.json|\.txt)$")
_TYPES = {".html": "text/html", ".json": "application/json", ".txt": "text/plain"}
_KINDS = {".html": "report", ".json": "json", ".txt": "plan"}

app = FastAPI(title="Kommuna", docs_url=None, redoc_url=None, openapi_url=None)
_reads_dag = Depends(requires_access_dag("GET"))


@app.get("/dags/{dag_id}/artifacts/{filename}", dependencies=[_reads_dag])
def artifact(dag_id: str, filename: str) -> Response:
    """A report, a JSON document or a plan of the DAG's team."""
    match = _ARTIFACT.match(filename)
    if not match:
        raise HTTPException(404, "no such artifact")
    digest, suffix = match.groups()
    store = _store(dag_id)
    size = store.size(digest, suffix)
    if size is None:
        raise HTTPException(404, "no such artifact: it may have been collected; run the task again")
    try:
        raw = store.read(Artifact(kind=_KINDS[suffix], digest=digest, suffix=suffix, bytes=size))
    except KommunaError as error:
        raise HTTPException(502, str(error)) from None
    return _answer(raw, _TYPES[suffix])


@app.get("/dags/{dag_id}/manifests/{key}", dependencies=[_reads_dag])
def manifest(dag_id: str, key: str) -> Response:
    """A step's manifest."""
    found = _store(dag_id).manifest(key) if re.fullmatch(r"[0-9a-f]{64}", key) else None
    if found is None:
        raise HTTPException(404, "no such manifest")
    return _answer(found.model_dump_json(indent=1).encode(), "application/json")


def _answer(raw: bytes, media_type: str) -> Response:
    headers = {
        "Content-Security-Policy": _SANDBOX,
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, max-age=86400",
    }
    return Response(raw, media_type=f"{media_type}; charset=utf-8", headers=headers)


def _store(dag_id: str) -> Store:
    team = owner_of(dag_id)
    if team is None:
        raise HTTPException(404, "no such DAG")
    return _open(team)


@functools.cache
def _open(team: str) -> Store:
    from pathlib import Path

    return Store(find_installation(Path.cwd()).store(), team)
