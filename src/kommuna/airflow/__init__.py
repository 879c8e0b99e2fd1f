"""Operators, DAG templates and policies: what a team's DAG file imports. Light: parsing loads no ML library.

Names are loaded when they are first used: Airflow itself loads `kommuna.airflow.admission.policies` while it starts,
before its own classes can be imported.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
