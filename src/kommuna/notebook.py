"""Kommuna as a library: what notebooks and other programs import.

>>> from kommuna.notebook import LabelModel, RuleSet, apply_rules

All tables may be of polars or pandas, or the path of a CSV, NDJSON or Parquet file; rules a `RuleSet`, a dict, or the
path of a YAML file. It stands apart from `kommuna` itself, which Airflow imports and which has to stay light.
"""

from __future__ import annotations

from kommuna.errors import KommunaError
from kommuna.spec.artifacts import Report
from kommuna.spec.rules import Rule, RuleSet
from kommuna.steps.labeling.apply import apply_rules
from kommuna.steps.labeling.functions import votes_of
from kommuna.steps.labeling.label import label_messages
from kommuna.steps.labeling.label_model import LabelModel
from kommuna.steps.labeling.matrix import from_matrix, to_matrix
from kommuna.steps.labeling.refine.step import refine_rules
from kommuna.steps.labeling.rule_report import rule_report
from kommuna.steps.labeling.rule_summary import rule_summary
from kommuna.steps.labeling.wrench import read_wrench, write_wrench
from kommuna.steps.training.evaluate import evaluate
from kommuna.steps.training.predict import predict
from kommuna.steps.training.tagger import Tagger
from kommuna.steps.training.train import train_classifier

__all__ = [
    "KommunaError",
    "LabelModel",
    "Report",
    "Rule",
    "RuleSet",
    "Tagger",
    "apply_rules",
    "evaluate",
    "from_matrix",
    "label_messages",
    "predict",
    "read_wrench",
    "refine_rules",
    "rule_report",
    "rule_summary",
    "to_matrix",
    "train_classifier",
    "votes_of",
    "write_wrench",
]
