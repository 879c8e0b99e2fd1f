"""MLflow's sign-in, as its server calls it for each request: a login opens the workspaces of its roles, and no other.

MLflow decides about each route by itself, and some are open to whoever is signed in, in whichever workspace they name.
Others have the server do work that is not the registry's: these are closed.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_CLOSED = (
    "/mlflow/demo/generate",  # fills the workspace with examples, for half a minute of the server's time
    "/gateway/",  # sends what a task gives it to any public address, past the team's NetworkPolicy
    "/mlflow/assistant/",  # starts a program on the server
)


def authenticate() -> Any:
    """Returns who sends the current request, or the answer that refuses it."""
    auth: Any = import_module("mlflow.server.auth")  # its names of Flask are not exported
    found = auth.authenticate_request_basic_auth()
    if isinstance(found, auth.Response) or auth.store.get_user(found.username).is_admin:
        return found
    workspace = auth.request.headers.get("X-MLFLOW-WORKSPACE", "").strip()
    if workspace and workspace not in auth.store.list_accessible_workspace_names(found.username):
        return auth.make_forbidden_response()
    return auth.make_forbidden_response() if any(part in auth.request.path for part in _CLOSED) else found
