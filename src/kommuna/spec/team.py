"""`Team` and `Platform`: the only description of the teams that share the platform and of what each owns."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, StringConstraints, model_validator

from kommuna.errors import nearest
from kommuna.spec.auth import GroupPath
from kommuna.spec.base import Spec
from kommuna.spec.llm import LlmBudgets, Llms
from kommuna.spec.names import Name, NamespaceName, TeamName, qualified
from kommuna.spec.network import Door
from kommuna.spec.resources import Cpu, Memory

Login = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9._\-]*$")]
Role = Literal["viewer", "user", "op"]
GroupRole = Literal["viewer", "user", "op", "admin"]
GROUP_ROLES = get_args(GroupRole)  # each may do what those before it may


class Quota(Spec):
    """The most that a team's steps may use at one time."""

    cpu: Cpu = Field("8", description="Cores over all pods of the team's tasks.")
    memory: Memory = Field("16Gi", description="Memory over all pods of the team's tasks.")
    pods: int = Field(20, gt=0, description="Pods at one time.")
    disk: Memory = Field("80Gi", description="Disk of the nodes over all pods of the team's tasks, logs included.")


class Repository(Spec):
    """A Git repository of DAG files, for a platform on Kubernetes."""

    url: str = Field(min_length=1, description="Its URL, as `git clone` takes it.")
    ref: str = Field("main", description="The branch or tag that is followed.")
    secret: str = Field(
        "", description="Secret beside the control plane with a key `connection`: an Airflow Git connection as JSON."
    )


class Team(Spec):
    """One team: everything that it owns follows from this."""

    bundle: str = Field(description="The team's folder of DAG files, relative to kommuna.yaml or in its repository.")
    repository: Repository | None = Field(None, description="The team's own repository; the platform's if absent.")
    namespace: NamespaceName = Field("", description="The team's namespace on Kubernetes; RELEASE-TEAM if empty.")
    keep_namespace: bool = Field(
        True, description="The namespace outlives the team's entry in the chart's values, with the Secrets in it."
    )
    store_secret: str = Field(
        "",
        description="Secret beside the control plane with the team's own AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
    )
    registry_secret: str = Field(
        "",
        description="Secret beside the control plane with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, by which MLflow "
        "reaches the team's models: below `workspaces/TEAM/` of `mlflow.artifacts`. MLflow's own key if empty.",
    )
    people: dict[Login, Role] = Field(default_factory=dict, description="Who may log in, and as what.")
    groups: dict[GroupRole, tuple[GroupPath, ...]] = Field(
        default_factory=dict,
        description="With Keycloak: further groups whose members have a role, by path, besides /CLIENT/TEAM/ROLE.",
    )
    own_images: bool = Field(
        False, description="Its tasks may start pods from images of the team's own, in its namespace on Kubernetes."
    )
    egress: tuple[Door, ...] = Field(
        (),
        description="Where its tasks may connect besides the platform and its LLMs, on Kubernetes: "
        "[{to: [{ipBlock: {cidr: …}}], ports: [{port: 443, protocol: TCP}]}].",
    )
    llm: LlmBudgets = Field(
        default_factory=LlmBudgets,
        description="The most that its steps may use of LLMs, in tokens and money: "
        "{month: {money: 50}, run: {money: 5}}.",
    )
    owner: str = Field("", description="Shown as the owner of the team's DAGs; the team's name if empty.")
    tags: tuple[str, ...] = Field((), description="Tags that each of the team's DAGs gets besides the team's name.")
    retries: int = Field(1, ge=0, le=10, description="Tries after a failed one, where a retry can help.")
    parallelism: int = Field(4, gt=0, description="Tasks of the team that run at one time.")
    pools: dict[Name, int] = Field(
        default_factory=lambda: {"default": 8},
        description="Pools and their slots, at most `parallelism`; `default` is used where a DAG names none.",
    )
    quota: Quota = Field(default_factory=Quota)

    @property
    def pool_slots(self) -> dict[Name, int]:
        """The slots of each pool, at most `parallelism`.

        The scheduler leaves out all tasks of a full pool at once, and examines the others one by one: while a team's
        executor is full and its pool is not, a thousand waiting tasks of the team would delay those of all teams.
        """
        return {name: min(slots, self.parallelism) for name, slots in self.pools.items()}

    @model_validator(mode="after")
    def _has_default_pool(self) -> Team:
        if "default" not in self.pools:
            raise ValueError("pools: a team needs a pool named 'default'")
        if any(slots < 1 for slots in self.pools.values()):
            raise ValueError("pools: a pool needs one slot at least")
        return self


class Ports(Spec):
    """Where the embedded platform's servers listen, on loopback."""

    airflow: int = Field(8080, gt=0, lt=65536)
    mlflow: int = Field(5000, gt=0, lt=65536)


TASK_REQUEST_LIMIT: Any = Field(
    "4Mi",
    description="The largest request of a task to Airflow, such as an XCom. All teams share the server that reads it.",
)


class Platform(Spec):
    """`kommuna.yaml`: the whole installation."""

    teams: dict[TeamName, Team] = Field(description="Every team, by name.")
    neighbours: tuple[TeamName, ...] = Field(
        (), description="Names of further teams, without their settings: what the pods of one team need to know."
    )
    store: str = Field("", description="Where artifacts live: file:// or s3:// URL; the state folder if empty.")
    repository: Repository | None = Field(None, description="The repository of teams that have none of their own.")
    store_options: dict[str, Any] = Field(
        default_factory=dict, description="fsspec options of the store (endpoint_url …)."
    )
    mlflow: str = Field("", description="The MLflow server; the embedded platform's own if empty.")
    mlflow_pages: str = Field("", description="The same, as people's browsers reach it; the server's URL if empty.")
    llm: Llms = Field(default_factory=Llms, description="LLM endpoints of `ask` rules and of rule proposals.")
    task_request_limit: Memory = TASK_REQUEST_LIMIT
    state: str = Field(".kommuna", description="Folder of the embedded platform's state, relative to kommuna.yaml.")
    ports: Ports = Field(default_factory=Ports)

    @model_validator(mode="after")
    def _bundles_differ(self) -> Platform:
        seen: dict[tuple[str, str], str] = {}
        for name, team in self.teams.items():
            folder = str(Path(team.bundle))
            repository = team.repository or self.repository
            place = (repository.url if repository else "", folder)
            if place in seen:
                raise ValueError(f"teams {seen[place]} and {name} share the bundle '{folder}': give each its own")
            seen[place] = name
        return self

    @model_validator(mode="after")
    def _llms_are_for_teams(self) -> Platform:
        for name, endpoint in self.llm.endpoints.items():
            for team in endpoint.teams or ():
                if team not in self.team_names:
                    raise ValueError(f"llm.{name}.teams: no team '{team}'{nearest(team, self.team_names)}")
        return self

    @property
    def team_names(self) -> frozenset[str]:
        """The names of all teams, neighbours included: an id with the prefix of one of them belongs to that team."""
        return frozenset((*self.teams, *self.neighbours))

    def pool(self, team: str, name: str = "default") -> str:
        """Returns the global id of a team's pool."""
        return qualified(team, name, teams=self.team_names)

    def pool_slots(self) -> dict[str, tuple[str, int]]:
        """Returns the team and the slots of every pool, by the pool's global id."""
        return {
            self.pool(name, pool): (name, slots)
            for name, team in self.teams.items()
            for pool, slots in team.pool_slots.items()
        }

    def reduced_pools(self) -> list[str]:
        """Returns a message for each declared pool whose slots exceed the team's `parallelism`."""
        return [
            f"pool {self.pool(name, pool)} has {team.parallelism} slots, not {slots}: "
            f"team {name} has `parallelism: {team.parallelism}`"
            for name, team in self.teams.items()
            for pool, slots in team.pools.items()
            if slots > team.parallelism and "pools" in team.model_fields_set
        ]
