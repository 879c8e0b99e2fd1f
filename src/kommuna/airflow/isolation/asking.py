"""What a team's code may ask of the platform while it is parsed: for what is its own."""

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

MAX_ASKS = 200  # in one file

# MaskSecret is understood, and never passed on: it would hide words of a team's choice in everybody's logs.
Ask = (
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
ASKS: TypeAdapter[Any] = TypeAdapter(Annotated[Ask, Field(discriminator="type")])
_NAMES = ("conn_id", "key", "dag_id")


def refusal(ask: Any, team: str) -> ErrorResponse | None:
    """Why a team's code does not get what it asks for; None where it does."""
    if isinstance(ask, GetVariableKeys):
        name, own = ask.prefix or "", (ask.prefix or "").startswith(team + SEPARATOR)
    else:
        # An XCom has both a key and a DAG: the DAG decides.
        fields = {field: getattr(ask, field) for field in _NAMES if hasattr(ask, field)}
        name = fields.get("dag_id") or fields.get("conn_id") or fields.get("key") or ""
        own = owner_of(name) == team
    if own:
        return None
    text = f"'{name}' is not team {team}'s: a DAG file that is parsed may ask for '{team}{SEPARATOR}…' only"
    return ErrorResponse(error=ErrorType.PERMISSION_DENIED, detail={"status_code": 403, "message": text})
