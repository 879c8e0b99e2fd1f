"""Kommuna's pages inside Airflow's server: reports and manifests, for logged-in users of the DAG's team.

Team code writes a report, so it is served in a sandbox: its scripts may draw, but have no origin, cookies or network.
"""

from __future__ import annotations

import functools
import re

from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import Depends, FastAPI, HTTPException, Response

from kommuna.airflow.server.provenance import with_provenance
from kommuna.errors import KommunaError
from kommuna.spec.installation import find_installation
from kommuna.store import Manifest, Store

_SANDBOX = (
    "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
)
_TYPES = {"report": "text/html", "json": "application/json"}

app = FastAPI(title="Kommuna", docs_url=None, redoc_url=None, openapi_url=None)
_reads_dag = Depends(requires_access_dag("GET"))


@app.get("/dags/{dag_id}/manifests/{key}/outputs/{output}", dependencies=[_reads_dag])
def step_output(dag_id: str, key: str, output: str) -> Response:
    """Serves a JSON output, or a report with its provenance header, of the DAG's team."""
    store = _store(dag_id)
    found = _manifest(store, key)
    artifact = found.outputs.get(output)
    if artifact is None or artifact.kind not in _TYPES:
        raise HTTPException(404, "no such report")
    try:
        raw = store.read(artifact)
    except KommunaError as error:
        raise HTTPException(404, str(error)) from None
    return _answer(with_provenance(raw, found) if artifact.kind == "report" else raw, _TYPES[artifact.kind])


@app.get("/dags/{dag_id}/manifests/{key}", dependencies=[_reads_dag])
def manifest(dag_id: str, key: str) -> Response:
    """Serves a step's manifest."""
    return _answer(_manifest(_store(dag_id), key).model_dump_json(indent=1).encode(), "application/json")


def _manifest(store: Store, key: str) -> Manifest:
    found = store.manifest(key) if re.fullmatch(r"[0-9a-f]{64}", key) else None
    if found is None:
        raise HTTPException(404, "no such manifest")
    return found


def _answer(raw: bytes, media_type: str) -> Response:
    headers = {
        "Content-Security-Policy": _SANDBOX,
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-cache",
    }
    return Response(raw, media_type=f"{media_type}; charset=utf-8", headers=headers)


def _store(dag_id: str) -> Store:
    """Opens the store of the DAG's team. Airflow admits anybody to an id without a DAG, so the id does not name it."""
    from airflow.models.dag import DagModel

    team = DagModel.get_team_name(dag_id)
    if team is None:
        raise HTTPException(404, "no such DAG")
    return _open(team)


@functools.cache
def _open(team: str) -> Store:
    from pathlib import Path

    return Store(find_installation(Path.cwd()).store(), team)
