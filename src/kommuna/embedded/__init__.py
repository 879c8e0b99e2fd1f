"""The embedded platform: Airflow in multi-team mode and MLflow on one machine, under supervisord.

One trust domain: teams are kept from each other's mistakes here, not from each other's malice. Names are loaded when
they are first used, since each supervised process passes through this package as it starts.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
