"""What `kommuna` offers by name: `__init__.py` imports each from here when it is asked for."""

from .errors import KommunaError
from .loading import load
from .spec.artifacts import Report
from .spec.rules import Rule, RuleSet
from .spec.table import TableSchema
from .steps.etl.mask import mask_pii
from .steps.etl.prepare import prepare_messages
from .steps.etl.read import read_table
from .steps.labeling.apply import apply_rules
from .steps.labeling.functions import votes_of
from .steps.labeling.label import label_messages
from .steps.labeling.label_model import LabelModel
from .steps.labeling.refine.step import refine_rules
from .steps.labeling.report.summary import rule_summary
from .steps.labeling.rule_report import rule_report
from .steps.labeling.votes.label_matrix import from_matrix, to_matrix
from .steps.labeling.votes.wrench import read_wrench, write_wrench
from .steps.training.evaluate import evaluate
from .steps.training.predict import predict
from .steps.training.tagger import Tagger
from .steps.training.train import train_classifier

__all__ = [
    "KommunaError",
    "LabelModel",
    "Report",
    "Rule",
    "RuleSet",
    "TableSchema",
    "Tagger",
    "apply_rules",
    "evaluate",
    "from_matrix",
    "label_messages",
    "load",
    "mask_pii",
    "predict",
    "prepare_messages",
    "read_table",
    "read_wrench",
    "refine_rules",
    "rule_report",
    "rule_summary",
    "to_matrix",
    "train_classifier",
    "votes_of",
    "write_wrench",
]

__version__: str
