"""Links from a task to its report, its manifest, its MLflow run and its model version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from kommuna.spec.step import StepResult


def _result(operator: Any) -> StepResult | None:
    return getattr(operator, "result", None)


def _page(operator: Any, part: str) -> str:
    """Returns the address of a page of Kommuna inside Airflow's server, which checks the user's team."""
    from urllib.parse import urlsplit

    from airflow.sdk.configuration import conf

    base = urlsplit(conf.get("api", "base_url", fallback="/")).path.rstrip("/")
    return f"{base}/kommuna/dags/{operator.dag.dag_id}/{part}"


class ReportLink(BaseOperatorLink):
    """Links to the step's HTML report."""

    name = "Report"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Returns the report's address; empty where the step made no report."""
        result = _result(operator)
        reports = [name for name, file in result.outputs.items() if file.endswith(".html")] if result else []
        return _page(operator, f"manifests/{result.key}/outputs/{reports[0]}") if result and reports else ""


class ManifestLink(BaseOperatorLink):
    """Links to the step's manifest."""

    name = "Manifest"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Returns the manifest's address; empty where the step failed."""
        result = _result(operator)
        return _page(operator, f"manifests/{result.key}") if result and result.key else ""


class _MlflowLink(BaseOperatorLink):
    """Links to a page of MLflow that the step names."""

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Returns the page's address; empty where the step names none."""
        result = _result(operator)
        return result.links.get(self.name, "") if result else ""


class MlflowRunLink(_MlflowLink):
    """Links to the step's MLflow run."""

    name = "MLflow run"


class MlflowModelLink(_MlflowLink):
    """Links to the version in the model registry that the step registers or judges."""

    name = "MLflow model"
