"""Operators, DAG templates and policies that a team's DAG file imports. Importing them loads no ML library.

Names are loaded on first use: Airflow itself loads `kommuna.airflow.admission.policies` while it starts,
before its own classes can be imported.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
