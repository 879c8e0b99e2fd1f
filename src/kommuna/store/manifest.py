"""The manifest: a step's outputs, inputs and costs. It is written last, makes the outputs visible, and is immutable."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict, Field

from kommuna.spec.base import Spec
from kommuna.spec.names import TeamName
from kommuna.spec.resources import Resources
from kommuna.spec.step import Digest, FunctionName
from kommuna.store.question import Question
from kommuna.store.uses import Uses

Kind = Literal["table", "model", "report", "json", "plan", "code"]


class Artifact(Spec):
    """One immutable file, addressed by its content."""

    kind: Kind
    digest: Digest = Field(description="SHA-256 of the bytes.")
    suffix: str = Field(pattern=r"^\.[a-z0-9.]+$")
    bytes: int = Field(ge=0)
    rows: int | None = Field(None, ge=0, description="Rows of a table.")
    etag: str = Field("", description="The object's ETag when it was written; empty if the store has none.")

    @property
    def filename(self) -> str:
        """The name of the artifact's file in the store."""
        return f"{self.digest}{self.suffix}"


class Lineage(Spec):
    """The origin of an input."""

    input: str
    digest: str
    manifest: Digest | None = Field(None, description="The manifest of the step that made it; None if no step did.")
    output: str = ""
    source: str = Field("", description="The file's URL, or the registered model's version.")


class Environment(Spec):
    """What a step ran with: a rebuild needs it beside the question and the inputs."""

    resources: Resources
    commit: str = Field("", description="Git commit of the team's bundle; empty outside a repository.")
    dirty: bool = Field(False, description="Whether files of the bundle differed from the commit.")
    processor: str = Field("", description="The processor's name; BLAS chooses its code by it.")
    code: Artifact | None = Field(
        None,
        description="A tar archive: `bundle/` has the team's files that the step used, `inputs/` its documents, by "
        "their digests, and requirements.txt the libraries that were installed.",
    )


class Manifest(Spec):
    """The record of one successful run of a step."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # manifests of newer versions may have more fields

    key: Digest = Field(description="Unique name of the run.")
    team: TeamName
    function: FunctionName
    outputs: dict[str, Artifact]
    plans: dict[str, Artifact] = Field(default_factory=dict, description="Polars' optimised plan of each lazy table.")
    metrics: dict[str, float] = Field(default_factory=dict)
    links: dict[str, str] = Field(default_factory=dict, description="Link name to URL, such as the MLflow run's.")
    params: dict[str, Any] = Field(default_factory=dict)
    lineage: tuple[Lineage, ...] = ()
    question: Question | None = Field(None, description="The step's question.")
    uses: Uses | None = Field(None, description="What else the step used; None if it was run by hand.")
    cacheable: bool = Field(True, description="False if the step is not cacheable, or the task has cache=False.")
    expires: datetime | None = Field(None, description="When it can no longer be reused, as declared by the step.")
    environment: Environment | None = Field(None, description="None in manifests of older versions of Kommuna.")
    version: str = Field(description="Kommuna's version.")
    started: datetime
    seconds: float = Field(ge=0, description="Wall time of the step's process.")
    processor_seconds: float = Field(0.0, ge=0, description="Processor time of the step's process and its children.")
    peak_memory_bytes: int = Field(ge=0, description="Peak resident memory of the step's process and its children.")
    dag_id: str = ""
    run_id: str = ""
    task_id: str = ""

    @property
    def artifacts(self) -> tuple[Artifact, ...]:
        """Every artifact that belongs to the run: outputs, plans and code."""
        code = self.environment.code if self.environment else None
        return (*self.outputs.values(), *self.plans.values(), *([code] if code else []))

    @property
    def rows(self) -> int:
        """The total number of rows in the step's tables."""
        return sum(artifact.rows or 0 for artifact in self.outputs.values())

    @property
    def bytes(self) -> int:
        """The total size of the step's artifacts in bytes."""
        return sum(artifact.bytes for artifact in self.outputs.values())
