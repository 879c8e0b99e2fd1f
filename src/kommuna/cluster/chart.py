"""`python -m kommuna.cluster.chart template|values`: `_generated.tpl` and `values.yaml`, from the models.

What stands in the template is decided here alone: a team's defaults, units of quantities, the restricted pod, and the
settings of Airflow that every process and every team gets.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

import yaml

from kommuna import airflow_settings
from kommuna.airflow_settings import SHARED, WAITING, team_settings, variables
from kommuna.spec import pod
from kommuna.spec.base import Spec
from kommuna.spec.chart import ChartValues
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


def values() -> str:
    """The chart's `values.yaml`: a value a line, each below its description."""
    head = "# Made by `make chart` from the models in kommuna.spec: change them, not this file.\n"
    return head + "\n".join(_lines(ChartValues(), "")) + "\n"


def _lines(given: Spec, indent: str) -> Iterator[str]:
    for name, field in type(given).model_fields.items():
        value = getattr(given, name)
        if not indent:
            yield ""
        yield from textwrap.wrap(
            field.description or "", 120, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
        )
        if isinstance(value, Spec) and name != "llm":
            yield f"{indent}{name}:"
            yield from _lines(value, f"{indent}  ")
        else:
            plain = given.model_dump(mode="json", include={name}, exclude_none=name == "llm")[name]
            yield from _value(name, plain, indent)


def _value(name: str, value: Any, indent: str) -> Iterator[str]:
    """A value on its line; a rule's parts on lines of their own."""
    if isinstance(value, dict) and value:
        yield f"{indent}{name}:"
        for key, part in value.items():
            yield from _value(key, part, f"{indent}  ")
    else:
        yield f"{indent}{name}: {yaml.safe_dump(value, default_flow_style=True, width=1000).splitlines()[0]}"


if __name__ == "__main__":
    print(values() if sys.argv[1:] == ["values"] else generated(), end="")  # noqa: T201
