"""`python -m kommuna.cluster.chart`: the chart's `_generated.tpl`, from the models that say the same in Python.

What stands there is decided here alone: a team's defaults, units of quantities, the restricted pod, and the settings
of Airflow that every process and every team gets.
"""

from __future__ import annotations

import json
from typing import Any

import yaml

from kommuna import airflow_settings
from kommuna.airflow_settings import SHARED, WAITING, team_settings, variables
from kommuna.spec import pod
from kommuna.spec.resources import UNITS
from kommuna.spec.team import Repository, Team

# A team's executor, by templates over `root`, `team` and `spec` (the team with its defaults).
EXECUTOR = {
    "KUBERNETES_EXECUTOR__NAMESPACE": '{{ include "kommuna.namespace" . }}',
    "KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE": "/etc/kommuna/pods/{{ .team }}.yaml",
    "KUBERNETES_EXECUTOR__DELETE_WORKER_PODS": "True",
    "KUBERNETES_EXECUTOR__DELETE_WORKER_PODS_ON_FAILURE": "True",
    "KUBERNETES_EXECUTOR__WORKER_PODS_CREATION_BATCH_SIZE": "16",
    # A pod that the quota refuses is asked for again until there is room.
    "KUBERNETES_EXECUTOR__TASK_PUBLISH_MAX_RETRIES": "-1",
}
_HEAD = """{{/* Made by `make chart` from the models in kommuna: change them, not this file. */}}
"""


def generated() -> str:
    """The template's text."""
    parts = {
        "teamDefaults": json.dumps(team_defaults()),
        "repositoryDefaults": json.dumps(_defaults(Repository(url="-"), but="url")),
        "units": json.dumps(UNITS),
        "podSecurity": _yaml(pod.POD_SECURITY),
        "containerSecurity": _yaml(pod.CONTAINER_SECURITY),
        "workerPod": _yaml(pod.POD),
        "workerContainer": _yaml(pod.CONTAINER),
        "task": json.dumps(pod.TASK),
        "admin": airflow_settings.ADMIN,
        "airflowSettings": _yaml(variables(SHARED)),
        "waitingSettings": json.dumps(variables(WAITING)),
        "teamSettings": _quoted(
            team_settings(
                "{{ upper .team }}",
                parallelism="{{ .spec.parallelism }}",
                execution_api='{{ include "kommuna.execution" .root }}',
                executor=EXECUTOR,
            )
        ),
    }
    return _HEAD + "".join(
        f'\n{{{{- define "kommuna.{name}" -}}}}\n{text.strip()}\n{{{{- end }}}}\n' for name, text in parts.items()
    )


def team_defaults() -> dict[str, Any]:
    """What a team has that says nothing but its bundle."""
    return _defaults(Team(bundle="-"), but="bundle")


def _defaults(given: Team | Repository, *, but: str) -> dict[str, Any]:
    return given.model_dump(mode="json", exclude={but}, exclude_none=True)


def _yaml(value: dict[str, Any]) -> str:
    return yaml.safe_dump(value, sort_keys=False, width=1000)


def _quoted(settings: dict[str, str]) -> str:
    """A mapping of templates to templates: they give texts, whatever a text looks like."""
    return "\n".join(f"{name}: '{value}'" for name, value in settings.items())


if __name__ == "__main__":
    print(generated(), end="")  # noqa: T201
