"""Kommuna: one Airflow on Kubernetes that many ML teams share without getting in each other's way.

What notebooks and other programs use can be imported from here. Each name is loaded when it is first asked for, since
every process of Airflow imports this package:

>>> from kommuna import LabelModel, RuleSet, apply_rules

All tables may be of polars or pandas, or the path of a CSV, NDJSON or Parquet file; rules a `RuleSet`, a dict, or the
path of a YAML file.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
