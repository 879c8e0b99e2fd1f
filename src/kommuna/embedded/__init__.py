"""The embedded platform: Airflow in multi-team mode and MLflow on one machine, under supervisord.

It is one trust domain: teams are protected from each other's mistakes, not from malice. Names are loaded on first use,
since each supervised process imports this package as it starts.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
