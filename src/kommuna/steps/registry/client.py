"""`Registry`: a client of MLflow's model registry for one workspace, with short time-outs and clear errors."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from kommuna.clients.mlflow import identity_of, in_trouble, lacks_workspace, refused, unreachable
from kommuna.errors import KommunaError, RegistryError, SpecError
from kommuna.extras import needed_by
from kommuna.outages import is_outage
from kommuna.spec.step import Services
from kommuna.steps.registry.model_version import CHAMPION, EXPERIMENT, MODEL_DIGEST, ModelVersion
from kommuna.steps.registry.standing import CLAIM, SET, Standing, history_of, pin_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

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


class Registry:
    """The model registry of one team.

    Args:
        url: URL of the MLflow server.
        workspace: the team's workspace; empty if the server has no workspaces.
        pages: URL under which browsers reach the server; `url` if empty.
        airflow_pages: URL under which browsers reach Airflow.
    """

    def __init__(self, url: str, workspace: str = "", pages: str = "", airflow_pages: str = "") -> None:
        self.url = url.rstrip("/")
        self.workspace = workspace
        self._pages = pages.rstrip("/") or self.url
        self._airflow_pages = airflow_pages.rstrip("/")

    @classmethod
    def from_services(cls, services: Services) -> Self:
        """Creates the client from the platform's settings.

        Raises:
            RegistryError: no MLflow server is configured.
        """
        if not services.mlflow:
            raise RegistryError("no MLflow server is configured", fix="set `mlflow` in kommuna.yaml")
        return cls(services.mlflow, services.workspace, services.mlflow_pages, services.airflow_pages)

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

    def version(self, name: str, version: str) -> ModelVersion | None:
        """Returns a version; None if it does not exist, or no longer."""
        with self.session() as client:
            return self._version(client, name, version)

    def set_alias(self, version: ModelVersion, alias: str) -> None:
        """Points an alias to a version."""
        with self.session() as client:
            client.set_registered_model_alias(version.name, alias, version.version)

    def set_version_tags(self, version: ModelVersion, tags: Mapping[str, str]) -> None:
        """Writes tags of a version; empty ones are left out."""
        with self.session() as client:
            for key, value in tags.items():
                if value:
                    client.set_model_version_tag(version.name, version.version, key, value)

    def set_model_tag(self, name: str, key: str, value: str) -> None:
        """Writes a tag of a registered model.

        Args:
            name: the registered model.
            key: the tag's name.
            value: its text.

        Raises:
            SpecError: there is no such model.
        """
        from mlflow.exceptions import MlflowException

        with self.session() as client:
            try:
                client.set_registered_model_tag(name, key, value)
            except MlflowException as error:
                if _is_missing(error):
                    raise no_model(name) from None
                raise

    def drop_model_tag(self, name: str, key: str) -> None:
        """Removes a tag of a registered model; nothing happens if there is none."""
        from mlflow.exceptions import MlflowException

        with self.session() as client:
            try:
                client.delete_registered_model_tag(name, key)
            except MlflowException as error:
                if not _is_missing(error):
                    raise

    def standing(self, name: str) -> Standing:
        """Returns the champion of a model, who set it, and its pin, from one read of the model.

        Raises:
            SpecError: there is no such model.
        """
        from mlflow.exceptions import MlflowException

        with self.session() as client:
            try:
                model = client.get_registered_model(name)
            except MlflowException as error:
                if _is_missing(error):
                    raise no_model(name) from None
                raise
            return self._standing(client, model)

    def standings(self) -> list[Standing]:
        """Returns the standing of every registered model of the workspace, by name."""
        with self.session() as client:
            models, token = [], None
            while True:
                page = client.search_registered_models(page_token=token, order_by=["name ASC"])
                models += list(page)
                token = page.token
                if not token:
                    return [self._standing(client, client.get_registered_model(model.name)) for model in models]

    def versions(self, name: str) -> list[ModelVersion]:
        """Returns every version of a model, the newest first."""
        with self.session() as client:
            found = [one.version for one in client.search_model_versions(f"name = '{_literal(name)}'")]
            ordered = sorted(found, key=int, reverse=True)
            return [one for number in ordered if (one := self._version(client, name, number)) is not None]

    def newer_tags(self, version: ModelVersion) -> dict[int, dict[str, str]]:
        """Returns the tags of the versions that were registered after a version, by number."""
        with self.session() as client:
            found = client.search_model_versions(f"name = '{_literal(version.name)}'")
            return {int(one.version): dict(one.tags) for one in found if int(one.version) > int(version.version)}

    def _standing(self, client: MlflowClient, model: Any) -> Standing:
        tags, aliases = dict(model.tags), dict(model.aliases)
        champion = aliases.get(CHAMPION)
        set_to = tags.get(SET, "")
        return Standing(
            name=model.name,
            champion=self._version(client, model.name, champion) if champion else None,
            set_to=set_to,
            is_set_there=set_to == champion or bool(set_to and self._version(client, model.name, set_to)),
            pin=pin_of(tags),
            history=history_of(tags),
            claims={key: value for key, value in tags.items() if key.startswith(CLAIM)},
        )

    def _version(self, client: MlflowClient, name: str, version: str) -> ModelVersion | None:
        from mlflow.exceptions import MlflowException

        try:
            return self.described(client.get_model_version(name, str(version)))
        except MlflowException as error:
            if _is_missing(error):
                return None
            raise

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
            stage=stage if (stage := str(found.current_stage or "None")) != "None" else "",
            identity=identity_of(tags, found.source, run_id, found.creation_timestamp),
        )

    def report_url(self, dag_id: str, manifest: str) -> str:
        """Returns the address of an evaluation's report, on the pages of Airflow."""
        return f"{self._airflow_pages}/kommuna/dags/{dag_id}/manifests/{manifest}/outputs/report"

    def run_url(self, dag_id: str, run_id: str) -> str:
        """Returns the address of a DAG run, on the pages of Airflow."""
        return f"{self._airflow_pages}/dags/{dag_id}/runs/{quote(run_id, safe='')}"

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


def no_model(name: str) -> SpecError:
    """Makes the error for a model that does not exist."""
    return SpecError(f"there is no registered model '{name}'", fix="`kommuna models list` names the team's models")


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
