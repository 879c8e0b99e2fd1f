"""`ModelVersion`: one registered version of a model, and the names of its aliases and tags."""

from __future__ import annotations

from pydantic import Field

from kommuna.spec.base import Spec

CHAMPION = "champion"
CHALLENGER = "challenger"

# Tags of a version, set when it is registered.
MODEL_DIGEST = "kommuna.model_digest"
MANIFEST = "kommuna.manifest"
KEY = "kommuna.key"
TEAM = "kommuna.team"
DAG = "kommuna.dag"
EXPERIMENT = "kommuna.experiment"
# And when it is judged.
VERDICT = "kommuna.verdict"
REASON = "kommuna.reason"
GATE = "kommuna.gate"
FIGURES = "kommuna.figures"
GOLD = "kommuna.gold"
DEV = "kommuna.dev"
MESSAGES = "kommuna.messages"
EVALUATION = "kommuna.evaluation"
REPORT = "kommuna.report"
DECIDED_BY = "kommuna.decided_by"
DECIDED_AT = "kommuna.decided_at"


class ModelVersion(Spec):
    """One registered version of a model."""

    name: str
    version: str
    run_id: str = Field("", description="The MLflow run that logged it.")
    url: str = Field("", description="Its page in the MLflow UI.")
    run_url: str = Field("", description="The run's page in the MLflow UI.")
    aliases: tuple[str, ...] = ()
    tags: dict[str, str] = Field(default_factory=dict)
    stage: str = Field("", description="MLflow's former stage, `Archived` for example; empty if it has none.")
    identity: str = Field("", description="Names its content, see `kommuna.clients.mlflow.identity_of`.")

    @property
    def model_digest(self) -> str:
        """Content digest of the model artifact."""
        return self.tags.get(MODEL_DIGEST, "")
