"""`Registry`: a client of MLflow's model registry for one workspace, with short time-outs and clear errors."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from pydantic import Field

from kommuna.clients.mlflow import in_trouble, lacks_workspace, refused, unreachable
from kommuna.errors import KommunaError, RegistryError
from kommuna.extras import needed_by
from kommuna.outages import is_outage
from kommuna.spec.base import Spec
from kommuna.spec.step import Services

if TYPE_CHECKING:
    from mlflow import MlflowClient

MODEL_DIGEST = "kommuna.model_digest"
MANIFEST = "kommuna.manifest"
KEY = "kommuna.key"
TEAM = "kommuna.team"
DAG = "kommuna.dag"
EXPERIMENT = "kommuna.experiment"
CHAMPION = "champion"
CHALLENGER = "challenger"

_SERVERS_OWN = re.compile(r"failed with error code (5\d\d|408|429)\b")

# MLflow's defaults are 120 seconds per request and 7 retries with growing pauses: minutes until an error is raised.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0.2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_HTTP_RESPECT_RETRY_AFTER_HEADER": "false",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}


class ModelVersion(Spec):
    """One registered version of a model."""

    name: str
    version: str
    run_id: str = Field("", description="The MLflow run that logged it.")
    url: str = Field("", description="Its page in the MLflow UI.")
    run_url: str = Field("", description="The run's page in the MLflow UI.")
    aliases: tuple[str, ...] = ()
    tags: dict[str, str] = Field(default_factory=dict)

    @property
    def model_digest(self) -> str:
        """Content digest of the model artifact."""
        return self.tags.get(MODEL_DIGEST, "")


class Registry:
    """The model registry of one team.

    Args:
        url: URL of the MLflow server.
        workspace: the team's workspace; empty if the server has no workspaces.
        pages: URL under which browsers reach the server; `url` if empty.
    """

    def __init__(self, url: str, workspace: str = "", pages: str = "") -> None:
        self.url = url.rstrip("/")
        self.workspace = workspace
        self._pages = pages.rstrip("/") or self.url

    @classmethod
    def from_services(cls, services: Services) -> Self:
        """Creates the client from the platform's settings.

        Raises:
            RegistryError: no MLflow server is configured.
        """
        if not services.mlflow:
            raise RegistryError("no MLflow server is configured", fix="set `mlflow` in kommuna.yaml")
        return cls(services.mlflow, services.workspace, services.mlflow_pages)

    def settings_used(self) -> list[str]:
        """Returns the settings that answers depend on; the step cache records them."""
        return ["mlflow", "mlflow_pages", "workspace"]

    @contextlib.contextmanager
    def session(self) -> Iterator[MlflowClient]:
        """Points MLflow to this server and workspace, and restores the previous settings at the end.

        Raises:
            RegistryError: the server is unreachable, refuses the request, or lacks the workspace.
            NotInstalled: MLflow is not installed.
        """
        import requests

        with needed_by("the model registry"):
            import mlflow
            from mlflow.exceptions import MlflowException

        wanted = dict(_ENVIRONMENT) | ({"MLFLOW_WORKSPACE": self.workspace} if self.workspace else {})
        before = {name: os.environ.get(name) for name in wanted}
        before_uri = mlflow.get_tracking_uri() if _is_uri_set() else None
        try:
            os.environ.update(wanted)
            mlflow.set_tracking_uri(self.url)
            if self.workspace:
                mlflow.set_workspace(self.workspace)
            yield mlflow.MlflowClient(self.url)
        except MlflowException as error:
            raise self._readable(error) from None
        except requests.RequestException as error:
            raise self._unreachable(str(error)) from None
        except KommunaError:
            raise
        except Exception as error:  # raised by the driver of MLflow's artifact store
            if is_outage(error):
                raise self._unreachable(f"{type(error).__name__}: {error}") from None
            raise
        finally:
            if self.workspace:
                mlflow.set_workspace(before["MLFLOW_WORKSPACE"])
            if before_uri is not None:
                mlflow.set_tracking_uri(before_uri)
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    def by_alias(self, name: str, alias: str) -> ModelVersion | None:
        """Returns the version that an alias points to; None if there is no such model or alias."""
        from mlflow.exceptions import MlflowException

        with self.session() as client:
            try:
                return self.described(client.get_model_version_by_alias(name, alias))
            except MlflowException as error:
                if _is_missing(error):
                    return None
                raise

    def by_digest(self, name: str, digest: str) -> ModelVersion | None:
        """Returns the first version that was registered from a model artifact; None without one.

        Args:
            name: the model's registered name.
            digest: SHA-256 of the artifact.
        """
        with self.session() as client:
            found = client.search_model_versions(f"name = '{_literal(name)}' and tag.`{MODEL_DIGEST}` = '{digest}'")
            versions = sorted(found, key=lambda version: int(version.version))
            # Search results have no aliases: get the version itself.
            return self.described(client.get_model_version(name, versions[0].version)) if versions else None

    def set_alias(self, version: ModelVersion, alias: str) -> None:
        """Points an alias to a version."""
        with self.session() as client:
            client.set_registered_model_alias(version.name, alias, version.version)

    def described(self, found: Any) -> ModelVersion:
        """Converts MLflow's model version to a `ModelVersion` with the URLs of its pages."""
        run_id, tags = found.run_id or "", dict(found.tags)
        run_page = f"experiments/{tags[EXPERIMENT]}/runs/{run_id}" if run_id and EXPERIMENT in tags else ""
        return ModelVersion(
            name=found.name,
            version=str(found.version),
            run_id=run_id,
            url=self._page(f"models/{quote(found.name, safe='')}/versions/{found.version}"),
            run_url=self._page(run_page) if run_page else "",
            aliases=tuple(sorted(str(alias) for alias in found.aliases)),
            tags=tags,
        )

    def _page(self, path: str) -> str:
        return f"{self._pages}/#/{path}" + (f"?workspace={quote(self.workspace)}" if self.workspace else "")

    def _readable(self, error: Any) -> RegistryError:
        message = str(error).splitlines()[0] if str(error) else type(error).__name__
        code = str(getattr(error, "error_code", ""))
        if "failed with exception" in message or "timeout exception" in message or _SERVERS_OWN.search(message):
            return self._unreachable(message)
        short = _short(message)
        return refused(self.url, self.workspace, f"{short} (FEATURE_DISABLED)" if code == "FEATURE_DISABLED" else short)

    def _unreachable(self, message: str) -> RegistryError:
        if "too many" in message and "error responses" in message:
            return in_trouble(self.url, _short(message.split("Caused by")[-1]))
        return unreachable(self.url, _short(_cause(message)))


def _is_uri_set() -> bool:
    import mlflow

    return bool(mlflow.is_tracking_uri_set())  # type: ignore[no-untyped-call,unused-ignore]


def _is_missing(error: Any) -> bool:
    """Whether a model or alias does not exist; for an unknown alias MLflow raises INVALID_PARAMETER_VALUE."""
    code = str(getattr(error, "error_code", ""))
    if lacks_workspace(str(error)):
        return False
    return code == "RESOURCE_DOES_NOT_EXIST" or (code == "INVALID_PARAMETER_VALUE" and "alias" in str(error).lower())


def _literal(value: str) -> str:
    return value.replace("'", "''")


def _cause(message: str) -> str:
    """Returns the cause in a message of urllib3."""
    for known in ("Connection refused", "timed out", "Name or service not known", "No route to host", "timeout"):
        if known in message:
            return known.lower()
    return message


def _short(message: str) -> str:
    """Returns a message as one line; of a JSON response only its status, code and message."""
    head, brace, tail = message.partition("{")
    with contextlib.suppress(ValueError, AttributeError):
        body = json.loads(brace + tail)
        status = head.split()[-1] if head.split() else ""
        message = " ".join(str(part) for part in (status, body.get("error_code"), body.get("message")) if part)
    return message if len(message) <= 300 else message[:299] + "…"
