"""A client of MLflow's REST API, for calls without MLflow's own library, whose import takes a second."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlsplit

import requests

from kommuna.clients.http import Server, error_message
from kommuna.errors import RegistryError, RegistryUnreachable
from kommuna.outages import is_outage, is_outage_status
from kommuna.spec.step import Services
from kommuna.waiting import wait_until

PAGE = 1000  # model versions
_NO_WORKSPACE = re.compile(
    r"Workspace '[^']*' not found|[Ww]orkspace APIs|workspaces? (is|are) not enabled|FEATURE_DISABLED"
)
_DELETED_EXPERIMENT = re.compile(r"deleted experiment|experiment .*must be in the 'active' state", re.IGNORECASE)


class MlflowApi:
    """A client of MLflow's server, for one user and one workspace.

    Args:
        url: the server's address.
        workspace: the team's workspace; empty if the server has no workspaces.
        login: user and password; by default from the variables that MLflow's own client reads.
    """

    def __init__(self, url: str, workspace: str = "", *, login: tuple[str, str] | None = None) -> None:
        self._workspace = workspace
        headers = {"X-MLFLOW-WORKSPACE": workspace} if workspace else {}
        self._server = Server(url, auth=login or _login_from_environment(), headers=headers)

    @classmethod
    def from_services(cls, services: Services) -> Self:
        """Makes a client of the team's registry."""
        return cls(services.mlflow, services.workspace)

    def wait(self, *, seconds: float = 600) -> None:
        """Waits until the server answers.

        Raises:
            RegistryUnreachable: it does not answer in time.
        """
        url = self._server.url
        wait_until(
            f"MLflow at {url} answers",
            self._is_up,
            seconds=seconds,
            every=1,
            late=lambda: RegistryUnreachable(f"MLflow at {url} does not answer", fix="see the log of its pod"),
        )

    def _is_up(self) -> bool:
        try:
            return self._server.request("GET", "/health", timeout=5).ok
        except requests.RequestException:
            return False

    def make_workspace(self, name: str) -> None:
        """Creates a workspace unless it exists.

        Raises:
            RegistryError: MLflow refuses, or does not answer.
        """
        answer, _ = self._ask("POST", "3.0/mlflow/workspaces", json={"name": name})
        if not answer.ok and "EXISTS" not in answer.text.upper():
            raise RegistryError(f"MLflow refuses the workspace '{name}': {answer.status_code} {_said(answer)}")

    def by_alias(self, name: str, alias: str) -> dict[str, Any] | None:
        """Returns MLflow's record of the version that an alias points to; None if there is no such model or alias.

        Raises:
            RegistryError: MLflow refuses, or does not answer.
        """
        answer, body = self._ask("GET", "2.0/mlflow/registered-models/alias", params={"name": name, "alias": alias})
        if answer.ok:
            return dict(body["model_version"])
        absent = body.get("error_code") in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")
        if absent and not lacks_workspace(_said(answer)):
            return None
        if answer.status_code == 403:  # with authentication, MLflow answers this for a missing model, too
            quoted = name.replace("'", "''")
            listed, models = self._ask(
                "GET", "2.0/mlflow/registered-models/search", params={"filter": f"name = '{quoted}'"}
            )
            if listed.ok and not models.get("registered_models"):
                return None
        raise self._refusal(answer)

    def versions(self) -> Iterator[dict[str, Any]]:
        """Yields MLflow's record of every model version of the workspace.

        Raises:
            RegistryError: MLflow refuses, or does not answer.
        """
        page = ""
        while True:
            params = {"max_results": str(PAGE)} | ({"page_token": page} if page else {})
            answer, body = self._ask("GET", "2.0/mlflow/model-versions/search", params=params)
            if not answer.ok:
                raise self._refusal(answer)
            yield from body.get("model_versions", [])
            page = body.get("next_page_token") or ""
            if not page:
                return

    def download(self, name: str, version: str, folder: Path) -> None:
        """Downloads the files of a model version, as MLflow serves them.

        Args:
            name: the registered model.
            version: the version's number.
            folder: where the files go.

        Raises:
            RegistryError: MLflow refuses, does not answer, or does not serve the files itself.
        """
        asked = {"name": name, "version": version}
        answer, body = self._ask("GET", "2.0/mlflow/model-versions/get-download-uri", params=asked)
        if not answer.ok:
            raise self._refusal(answer)
        scheme, _, place = str(body.get("artifact_uri", "")).partition(":")
        if scheme != "mlflow-artifacts":
            raise RegistryError(
                f"MLflow at {self._server.url} does not serve the files of {name} version {version}: {scheme}:{place}",
                fix="start its server with --artifacts-destination",
            )
        self._download(urlsplit(place).path.strip("/"), folder)

    def _download(self, place: str, folder: Path) -> None:
        answer, body = self._ask("GET", "2.0/mlflow-artifacts/artifacts", params={"path": place})
        if not answer.ok:
            raise self._refusal(answer)
        folder.mkdir(parents=True, exist_ok=True)
        for file in body.get("files", []):
            name = Path(str(file["path"])).name
            if file.get("is_dir"):
                self._download(f"{place}/{name}", folder / name)
                continue
            answer, _ = self._ask("GET", f"2.0/mlflow-artifacts/artifacts/{quote(f'{place}/{name}')}", is_json=False)
            if not answer.ok:
                raise self._refusal(answer)
            (folder / name).write_bytes(answer.content)

    def _ask(
        self, method: str, path: str, *, is_json: bool = True, **options: Any
    ) -> tuple[requests.Response, dict[str, Any]]:
        """Sends a request, and returns the answer with its JSON."""
        url = self._server.url
        try:
            answer = self._server.request(method, f"/api/{path}", timeout=20, **options)
            body = dict(answer.json()) if is_json and "json" in answer.headers.get("content-type", "") else {}
        except (requests.RequestException, ValueError) as error:
            if is_outage(error):
                raise unreachable(url, type(error).__name__) from None
            raise RegistryError(
                f"cannot call MLflow at {url}: {type(error).__name__}", fix="check `mlflow` in kommuna.yaml"
            ) from None
        if is_outage_status(answer.status_code):
            raise in_trouble(url, f"{answer.status_code} {answer.reason}")
        return answer, body

    def _refusal(self, answer: requests.Response) -> RegistryError:
        return refused(self._server.url, self._workspace, f"{answer.status_code} {_said(answer)}")


def identity_of(tags: Mapping[str, str], source: Any, run_id: Any, created: Any) -> str:
    """Returns what an evaluation knows a model version by: the digest of its artifact.

    A version that Kommuna did not register has none. MLflow does not change a version's files, so it is known by the
    place of its files and its time: the number alone may mean another model after the database was restored.

    Args:
        tags: the version's tags.
        source: the place of its files.
        run_id: the run that logged it.
        created: when it was made, in milliseconds since 1970.
    """
    known = tags.get("kommuna.model_digest")
    return known or hashlib.sha256(f"{source or ''}\n{run_id or ''}\n{created or ''}".encode()).hexdigest()


def unreachable(url: str, why: str) -> RegistryUnreachable:
    """Makes the error for a server that is unreachable."""
    return RegistryUnreachable(
        f"MLflow at {url} is unreachable: {why}",
        where=url,
        fix="check that the MLflow server is up (`kommuna status`), and its address, `mlflow` in kommuna.yaml",
    )


def in_trouble(url: str, why: str) -> RegistryUnreachable:
    """Makes the error for a server that answers with server errors."""
    return RegistryUnreachable(f"MLflow at {url} does not answer: {why}", where=url, fix="see the MLflow server's log")


def refused(url: str, workspace: str, why: str) -> RegistryError:
    """Makes the error for a request that the server refuses.

    Args:
        url: the server's address.
        workspace: the team's workspace; empty for a request of the platform's own.
        why: the server's reason.
    """
    if lacks_workspace(why):
        return RegistryError(
            f"MLflow at {url} has no workspace '{workspace}': {why}",
            where=f"workspace {workspace}",
            fix="the platform creates a team's workspace when it starts: run `kommuna up`, or ask MLOps",
        )
    if _DELETED_EXPERIMENT.search(why):
        return RegistryError(
            f"MLflow at {url} refuses: {why}",
            where=f"workspace {workspace}" if workspace else url,
            fix="somebody deleted the experiment: restore it in MLflow, or delete it for good, then clear this task",
        )
    return RegistryError(
        f"MLflow at {url} refuses: {why}",
        where=f"workspace {workspace}" if workspace else url,
        fix="check the team's rights in its registry workspace, and the MLflow server's log",
    )


def lacks_workspace(message: str) -> bool:
    """Whether an error message of MLflow means that it lacks the workspace, or has no workspaces at all."""
    return _NO_WORKSPACE.search(message) is not None


def _said(answer: requests.Response) -> str:
    return error_message(answer, key="message")


def _login_from_environment() -> tuple[str, str] | None:
    """Reads user and password from the variables of MLflow's own client; None if they are not set."""
    user = os.environ.get("MLFLOW_TRACKING_USERNAME")
    return (user, os.environ.get("MLFLOW_TRACKING_PASSWORD", "")) if user else None
