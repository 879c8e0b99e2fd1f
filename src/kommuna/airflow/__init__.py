"""Operators, DAG templates and policies: what a team's DAG file imports. Light: parsing loads no ML library.

Names are loaded when they are first used: Airflow itself loads `kommuna.airflow.policies` while it starts, before
its own classes can be imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kommuna.airflow.dag import TeamDag
    from kommuna.airflow.image import ImageOperator
    from kommuna.airflow.operator import StepOperator
    from kommuna.airflow.operators.labeling import (
        ApplyRulesOperator,
        LabelOperator,
        RefineRulesOperator,
        RuleReportOperator,
    )
    from kommuna.airflow.operators.registry import PromoteOperator, RegisterOperator
    from kommuna.airflow.operators.tables import (
        AsofJoinOperator,
        CleanOperator,
        MaskPiiOperator,
        PrepareMessagesOperator,
        QueryOperator,
        ReadTableOperator,
    )
    from kommuna.airflow.operators.training import EvaluateOperator, PredictOperator, TrainClassifierOperator
    from kommuna.airflow.references import Model, StepOutput
    from kommuna.airflow.weak_supervision import weak_supervision_dag

_HOMES = {
    "ApplyRulesOperator": "operators.labeling",
    "AsofJoinOperator": "operators.tables",
    "CleanOperator": "operators.tables",
    "EvaluateOperator": "operators.training",
    "ImageOperator": "image",
    "LabelOperator": "operators.labeling",
    "MaskPiiOperator": "operators.tables",
    "Model": "references",
    "PredictOperator": "operators.training",
    "PrepareMessagesOperator": "operators.tables",
    "PromoteOperator": "operators.registry",
    "QueryOperator": "operators.tables",
    "ReadTableOperator": "operators.tables",
    "RefineRulesOperator": "operators.labeling",
    "RegisterOperator": "operators.registry",
    "RuleReportOperator": "operators.labeling",
    "StepOperator": "operator",
    "StepOutput": "references",
    "TeamDag": "dag",
    "TrainClassifierOperator": "operators.training",
    "weak_supervision_dag": "weak_supervision",
}

__all__ = [
    "ApplyRulesOperator",
    "AsofJoinOperator",
    "CleanOperator",
    "EvaluateOperator",
    "ImageOperator",
    "LabelOperator",
    "MaskPiiOperator",
    "Model",
    "PredictOperator",
    "PrepareMessagesOperator",
    "PromoteOperator",
    "QueryOperator",
    "ReadTableOperator",
    "RefineRulesOperator",
    "RegisterOperator",
    "RuleReportOperator",
    "StepOperator",
    "StepOutput",
    "TeamDag",
    "TrainClassifierOperator",
    "weak_supervision_dag",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'kommuna.airflow' has no attribute '{name}'")
    return getattr(importlib.import_module(f"kommuna.airflow.{_HOMES[name]}"), name)
