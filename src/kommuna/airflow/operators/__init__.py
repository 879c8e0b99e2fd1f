"""Named operators over the shared steps, with typed signatures and the steps' argument names.

An input is another operator (its only output), one of its outputs (`labels["labels"]`), a `Model`, or a file:
relative to the bundle, `store://inbox/…`, or any URL. Every parameter may be a template. `kommuna steps NAME` describes
the parameters of a step.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kommuna.airflow.operators.base import SharedStepOperator


def shared_operators() -> list[type[SharedStepOperator]]:
    """Returns the operator of each shared step, in the order of `VERSIONS`."""
    from kommuna.airflow.operators import labeling, registry, tables, training
    from kommuna.airflow.operators.base import SharedStepOperator
    from kommuna.spec.versions import VERSIONS

    found = {
        operator
        for module in (tables, labeling, training, registry)
        for operator in vars(module).values()
        if inspect.isclass(operator) and issubclass(operator, SharedStepOperator) and "step" in vars(operator)
    }
    return sorted(found, key=lambda operator: list(VERSIONS).index(operator.step))
