"""`StepSpec`: one run of one step, as the JSON that an operator passes to the runtime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Discriminator, Field, StringConstraints, Tag, ValidationInfo, field_validator, model_validator

from kommuna.errors import EXIT_DONE, KommunaError, SpecError
from kommuna.spec.base import Spec
from kommuna.spec.caching import Duration
from kommuna.spec.failure import Failure
from kommuna.spec.llm import LlmBudgets, Llms
from kommuna.spec.names import TeamName
from kommuna.spec.plain import NotJson, as_json, readable
from kommuna.spec.resources import Resources
from kommuna.spec.versions import address_of, present_names

FunctionName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
NO_INPUT = "none"  # stands for the digest of an optional input that is absent
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class ArtifactInput(Spec):
    """An output of an earlier step of the same team."""

    manifest: Digest
    output: str = "result"
    digest: Digest | None = Field(None, description="Of the artifact, as the upstream task left it; checked if given.")


class FileInput(Spec):
    """A file that was not made by a step. It is identified by the digest of its content.

    `rules.yaml` is relative to the team's bundle, `store://inbox/messages.csv` to the team's prefix in the store;
    a path from the root and any other fsspec URL are taken as they are.
    """

    url: str = Field(min_length=1)


class ModelInput(Spec):
    """A registered model version that an alias points to."""

    model: str
    alias: str = "champion"
    optional: bool = Field(False, description="None where there is no such version, instead of an error.")
    unless: ArtifactInput | None = Field(None, description="None where the version is this model.")


def _kind_of_input(value: Any) -> str:
    """Returns the kind of an input by its characteristic key, so that errors refer to that kind alone."""
    names = value if isinstance(value, dict) else getattr(type(value), "model_fields", {})
    return next((tag for name, tag in _KINDS.items() if name in names), "<file>")


def _shape_of_inputs(value: Any) -> str:
    """Returns whether a value is one input, inputs by name, inputs in order, or none."""
    if value is None or isinstance(value, list | tuple):
        return "<none>" if value is None else "<list>"
    named = isinstance(value, dict) and not any(isinstance(value.get(name), str) for name in _KINDS)
    return "<named>" if named else "<one>"


_KINDS = {"manifest": "<artifact>", "url": "<file>", "model": "<model>"}
Input = Annotated[
    Annotated[ArtifactInput, Tag("<artifact>")]
    | Annotated[FileInput, Tag("<file>")]
    | Annotated[ModelInput, Tag("<model>")],
    Discriminator(_kind_of_input),
]
InputTree = Annotated[
    Annotated[Input, Tag("<one>")]
    | Annotated[dict[str, Input], Tag("<named>")]
    | Annotated[list[Input], Tag("<list>")]
    | Annotated[None, Tag("<none>")],
    Discriminator(_shape_of_inputs),
]


class StoreAddress(Spec):
    """Where the artifact store is."""

    url: str
    options: dict[str, Any] = Field(default_factory=dict)

    def shared(self, team: str) -> StoreAddress:
        """Returns the folder that the runs of a team share: what clients keep from run to run."""
        return StoreAddress(url=f"{self.url.rstrip('/')}/{team}/shared", options=self.options)


class Services(Spec):
    """The addresses of the services that a step uses by typed clients."""

    mlflow: str = Field("", description="URL of the MLflow server.")
    mlflow_pages: str = Field("", description="The same, as people's browsers reach it; the server's URL if empty.")
    workspace: str = Field("", description="The team's registry workspace.")
    airflow_pages: str = Field("", description="URL of Airflow, as people's browsers reach it.")
    llm: Llms = Field(default_factory=Llms, description="LLM endpoints; API keys are named, never contained.")
    llm_budgets: LlmBudgets = Field(
        default_factory=LlmBudgets, description="The most that the team's steps may use of LLMs together."
    )
    shared: StoreAddress | None = Field(
        None, description="The team's folder of what clients keep from run to run; the runtime sets it."
    )
    work: str = Field(
        "", description="Identifies the step's work, equal for a killed step and its retry; the runtime sets it."
    )
    run: str = Field("", description="The DAG run, whose steps share a budget; the runtime sets it.")


class StepContext(Spec):
    """Which task runs the step, and its inputs. The runtime passes it to a step that declares such a parameter."""

    team: TeamName
    dag_id: str = ""
    run_id: str = ""
    task_id: str = ""
    key: str = Field("", description="Identifies the work: equal for the same step, code, parameters and inputs.")
    inputs: dict[str, str] = Field(default_factory=dict, description="Input name to content digest.")
    manifests: dict[str, str] = Field(default_factory=dict, description="Input name to the manifest that made it.")


ALONE = StepContext(team="nobody")  # of a step that is called in a notebook


class StepSpec(Spec):
    """One run of one step."""

    function: FunctionName = Field(description="`module:function` of the step.")
    team: TeamName
    store: StoreAddress
    inputs: dict[str, InputTree] = Field(default_factory=dict)
    params: dict[str, Any] = Field(default_factory=dict)
    resources: Resources = Field(default_factory=Resources)
    services: Services = Field(default_factory=Services)
    bundle: str = Field("", description="The team's bundle folder: its modules can be imported, its files read.")
    dag_id: str = ""
    run_id: str = ""
    task_id: str = ""
    cache: bool = Field(True, description="If false, the step always runs, and no other run uses its result.")
    expires: Duration | None = Field(None, description="How long its result may be given to other runs: 12h, 1d.")

    @field_validator("function")
    @classmethod
    def _is_an_address(cls, function: str) -> str:
        return address_of(function)

    @field_validator("params")
    @classmethod
    def _are_json(cls, params: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        function = info.data.get("function", "")
        return json_params(present_names(function, params), function)


def json_params(params: Mapping[str, Any], function: str) -> dict[str, Any]:
    """Converts parameters to JSON, which the step's process receives and the cache compares.

    Args:
        params: values of any types, by name.
        function: the step's name, for error messages.

    Raises:
        SpecError: JSON cannot hold a part of a parameter. The message names the parameter, the part and the value.
    """
    try:
        return {str(name): as_json(value, str(name)) for name, value in params.items()}
    except NotJson as fault:
        of_step = f" of step {function}" if function else ""
        raise SpecError(readable(f"parameter '{fault.place}'{of_step} {fault.why}"), fix=fault.fix) from None


class StepResult(Spec):
    """How a step ended, as the JSON that the runtime returns to the operator (under 4 KB)."""

    exit_code: int
    failure: Failure | None = Field(None, description="What went wrong, where, and how to fix it.")
    key: str = ""
    cached: bool = False
    outputs: dict[str, str] = Field(default_factory=dict, description="Output name to artifact file name.")
    metrics: dict[str, float] = Field(default_factory=dict)
    links: dict[str, str] = Field(default_factory=dict, description="Link name to URL, such as the MLflow run's.")
    rows: int = 0
    bytes: int = 0
    seconds: float = 0.0
    processor_seconds: float = 0.0
    peak_memory_bytes: int = 0

    @model_validator(mode="after")
    def _fails_with_a_reason(self) -> Self:
        if (self.exit_code == EXIT_DONE) != (self.failure is None):
            raise ValueError("a step that succeeds has no failure, and one that fails has one")
        return self

    @classmethod
    def failed(cls, error: KommunaError) -> Self:
        """Creates the result of a step that ended with an error."""
        return cls(exit_code=error.exit_code, failure=Failure.of(error))

    @property
    def message(self) -> str:
        """The error message; empty if the step succeeded."""
        return "" if self.failure is None else str(self.failure.error())
