"""The shared steps: the stable address, the module and the version of each.

DAGs and manifests refer to a step by its address, which does not change when code moves. The version is part of the
cache's question, so that a release of Kommuna makes teams recompute only what it changed. The results of small cases
are recorded, and a test fails where they changed and the version did not: see docs/steps.md. This module imports no
steps, so that a cache key is computed without their libraries.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple


class SharedStep(NamedTuple):
    """Where the function of a shared step is, and its version.

    Attributes:
        module: holds the function, which has the name that the address ends in.
        version: raised by one where the step's results change.
        formerly: modules that held the function before, which older DAG files and manifests name.
        renamed: former names of parameters, which older DAG files give.
    """

    module: str
    version: int
    formerly: tuple[str, ...] = ()
    renamed: Mapping[str, str] = MappingProxyType({})


STEPS: dict[str, SharedStep] = {
    "kommuna.steps:check": SharedStep("kommuna.steps.check", 1),
    "kommuna.steps:read_table": SharedStep("kommuna.steps.etl.read", 1),
    "kommuna.steps:clean": SharedStep("kommuna.steps.etl.clean", 1),
    "kommuna.steps:mask_pii": SharedStep("kommuna.steps.etl.mask", 3),
    "kommuna.steps:prepare_messages": SharedStep("kommuna.steps.etl.prepare", 4),
    "kommuna.steps:query": SharedStep("kommuna.steps.etl.query", 1),
    "kommuna.steps:asof_join": SharedStep("kommuna.steps.etl.asof", 1),
    "kommuna.steps:apply_rules": SharedStep("kommuna.steps.labeling.apply", 6),
    "kommuna.steps:ask_votes": SharedStep(
        "kommuna.steps.labeling.rules.ask.votes", 5, ("kommuna.steps.labeling.ask.votes",)
    ),
    "kommuna.steps:label_messages": SharedStep("kommuna.steps.labeling.label", 3),
    "kommuna.steps:refine_rules": SharedStep(
        "kommuna.steps.labeling.refine.step", 7, renamed={"several_tags": "multi_label"}
    ),
    "kommuna.steps:rule_report": SharedStep("kommuna.steps.labeling.rule_report", 3),
    "kommuna.steps:train_classifier": SharedStep("kommuna.steps.training.train", 4),
    "kommuna.steps:evaluate": SharedStep("kommuna.steps.training.evaluate", 8),
    "kommuna.steps:predict": SharedStep("kommuna.steps.training.predict", 3),
    "kommuna.steps:register": SharedStep("kommuna.steps.registry.register", 2),
    "kommuna.steps:promote": SharedStep("kommuna.steps.registry.promote", 2),
}
VERSIONS: dict[str, int] = {address: step.version for address, step in STEPS.items()}

# The version of the conversion between values and files (`runtime/codecs.py`), which all steps share. Raised likewise.
FORMAT = 2


def code_of(function: str) -> str:
    """Returns where a step's code is, as `module:function`. A team's step is returned unchanged.

    >>> code_of("kommuna.steps:label_messages"), code_of("my_steps:mine")
    ('kommuna.steps.labeling.label:label_messages', 'my_steps:mine')
    """
    step = STEPS.get(function)
    return f"{step.module}:{function.partition(':')[2]}" if step else function


def present_names(function: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a step's parameters by their present names.

    >>> present_names("kommuna.steps:refine_rules", {"several_tags": True})
    {'multi_label': True}
    """
    renamed = STEPS[function].renamed if function in STEPS else {}
    return {renamed.get(name, name): value for name, value in parameters.items()}


def address_of(function: str) -> str:
    """Returns the address of a step, also where it is named by the module of its code, as in older DAGs.

    >>> address_of("kommuna.steps.labeling.label:label_messages")
    'kommuna.steps:label_messages'
    """
    module, _, name = function.partition(":")
    address = f"kommuna.steps:{name}"
    return address if address in STEPS and module in (STEPS[address].module, *STEPS[address].formerly) else function
