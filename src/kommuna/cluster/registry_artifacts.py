"""How MLflow's server reaches artifacts in S3: a request reaches those of its workspace, with that workspace's key.

MLflow judges paths and addresses before it opens them. Here is the last step, so that a mistake there opens nothing of
another workspace.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlflow.exceptions import MlflowException  # noqa: TID253  # MLflow itself imports this module
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED  # noqa: TID253
from mlflow.store.artifact.s3_artifact_repo import S3ArtifactRepository  # noqa: TID253
from mlflow.utils.workspace_context import get_request_workspace  # noqa: TID253

KEYS = "KOMMUNA_REGISTRY_KEYS"  # variable: a folder with a folder for each team that has a key of its own
_ROOT = "_MLFLOW_SERVER_ARTIFACT_DESTINATION"  # variable: MLflow's `--artifacts-destination`
_KEPT_SECONDS = 300  # then a key is read again


def repository(artifact_uri: str, **options: Any) -> S3ArtifactRepository:
    """Returns how an address in S3 is reached: in the platform's server by workspace, elsewhere MLflow's own way."""
    return (WorkspaceArtifacts if KEYS in os.environ else S3ArtifactRepository)(artifact_uri, **options)


class WorkspaceArtifacts(S3ArtifactRepository):
    """Artifacts in S3, of which each request reaches those of its workspace."""

    def _create_thread_pool(self) -> ThreadPoolExecutor:
        return _InContext(max_workers=self.max_workers)

    def _get_s3_client(self) -> Any:
        return _client(get_request_workspace() or "", os.environ[_ROOT], int(time.time() / _KEPT_SECONDS))


class _InContext(ThreadPoolExecutor):
    """Threads that know the request for which they work."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        return super().submit(copy_context().run, fn, *args, **kwargs)


@lru_cache(maxsize=64)
def _client(workspace: str, root: str, _period: int) -> Any:
    """Makes a client that refuses what is not below the workspace's prefix, with the workspace's key if it has one."""
    from boto3.session import Config, Session

    if not workspace:
        raise MlflowException("artifacts are reached in a workspace only", PERMISSION_DENIED)
    place, folder = urlsplit(root), Path(os.environ[KEYS], workspace)
    prefix = f"{place.path.strip('/')}/workspaces/{workspace}/".lstrip("/")
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    key = {name.lower(): (folder / name).read_text().strip() for name in names} if folder.is_dir() else {}
    style = {"addressing_style": os.environ.get("MLFLOW_BOTO_CLIENT_ADDRESSING_STYLE", "auto")}
    config = Config(signature_version="s3v4", s3=style)
    made = Session().client("s3", endpoint_url=os.environ.get("MLFLOW_S3_ENDPOINT_URL"), config=config, **key)

    def judge(params: dict[str, Any], **_: Any) -> None:
        deleted = params.get("Delete", {}).get("Objects", ())
        reached = [params[name] for name in ("Key", "Prefix") if name in params] + [one["Key"] for one in deleted]
        inside = bool(reached) and all(name.startswith(prefix) for name in reached)
        if params.get("Bucket") != place.netloc or not inside or "CopySource" in params:
            raise MlflowException(f"the artifact is not one of workspace '{workspace}'", PERMISSION_DENIED)

    made.meta.events.register("before-parameter-build.s3", judge)
    return made
