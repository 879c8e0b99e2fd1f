"""Kommuna: one Airflow on Kubernetes that many ML teams share without getting in each other's way.

The public API for notebooks and other programs. Names are loaded lazily, since every process of Airflow imports this
package:

>>> from kommuna import LabelModel, RuleSet, apply_rules

Tables may be polars or pandas tables, or the path of a CSV, NDJSON or Parquet file. Rules may be a `RuleSet`, a dict,
or the path of a YAML file.
"""

import lazy_loader

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
