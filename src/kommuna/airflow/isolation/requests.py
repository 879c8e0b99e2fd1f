"""The requests that team code may send to the platform while it is parsed: only for what belongs to its team."""

from __future__ import annotations

from typing import Annotated, Any

from airflow.sdk.exceptions import ErrorType
from airflow.sdk.execution_time.comms import (
    DeleteVariable,
    ErrorResponse,
    GetConnection,
    GetPreviousDagRun,
    GetPreviousTI,
    GetTaskStates,
    GetTICount,
    GetVariable,
    GetVariableKeys,
    GetXCom,
    GetXComCount,
    GetXComSequenceItem,
    GetXComSequenceSlice,
    MaskSecret,
    PutVariable,
)
from pydantic import Field, TypeAdapter

from kommuna.spec.names import SEPARATOR, owner_of

MAX_REQUESTS = 200  # per file

# MaskSecret is accepted but never passed on: it would let a team mask any word in everybody's logs.
TeamRequest = (
    GetConnection
    | GetVariable
    | GetVariableKeys
    | PutVariable
    | DeleteVariable
    | GetPreviousDagRun
    | GetPreviousTI
    | GetTaskStates
    | GetTICount
    | GetXCom
    | GetXComCount
    | GetXComSequenceItem
    | GetXComSequenceSlice
    | MaskSecret
)
TEAM_REQUESTS: TypeAdapter[Any] = TypeAdapter(Annotated[TeamRequest, Field(discriminator="type")])
_NAMES = ("conn_id", "key", "dag_id")


def refusal(request: Any, team: str) -> ErrorResponse | None:
    """Returns the error for a request that team code may not make; None if it may.

    Args:
        request: a request of Airflow's supervisor protocol, for a variable, a connection or an XCom.
        team: the team whose code asks.
    """
    if isinstance(request, GetVariableKeys):
        name, own = request.prefix or "", (request.prefix or "").startswith(team + SEPARATOR)
    else:
        # An XCom has both a key and a DAG: the DAG decides.
        fields = {field: getattr(request, field) for field in _NAMES if hasattr(request, field)}
        name = fields.get("dag_id") or fields.get("conn_id") or fields.get("key") or ""
        own = owner_of(name) == team
    if own:
        return None
    text = (
        f"'{name}' does not belong to team '{team}': while it is parsed, a DAG file may read '{team}{SEPARATOR}…' only"
    )
    return ErrorResponse(error=ErrorType.PERMISSION_DENIED, detail={"status_code": 403, "message": text})
