from .dags.team_dag import TeamDag
from .dags.weak_supervision import weak_supervision_dag
from .operators.image import ImageOperator
from .operators.labeling import (
    ApplyRulesOperator,
    LabelOperator,
    RefineRulesOperator,
    RuleReportOperator,
)
from .operators.references import Model, StepOutput
from .operators.registry import PromoteOperator, RefusalOperator, RegisterOperator
from .operators.step import StepOperator
from .operators.tables import (
    AsofJoinOperator,
    CleanOperator,
    MaskPiiOperator,
    PrepareMessagesOperator,
    QueryOperator,
    ReadTableOperator,
)
from .operators.training import EvaluateOperator, PredictOperator, TrainClassifierOperator

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
    "RefusalOperator",
    "RegisterOperator",
    "RuleReportOperator",
    "StepOperator",
    "StepOutput",
    "TeamDag",
    "TrainClassifierOperator",
    "weak_supervision_dag",
]
