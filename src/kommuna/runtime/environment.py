"""The step's environment variables: fixed, so that no result depends on where a step runs."""

from __future__ import annotations

import os
import time

from kommuna.spec.caching import INTERPRETER
from kommuna.spec.resources import threads
from kommuna.spec.step import StepSpec

_FIXED = {"PYTHONDONTWRITEBYTECODE": "1", "TZ": "UTC", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8"}
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_MAX_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
    "ARROW_NUM_THREADS",
)
# Locations of programs and certificates, credentials of clients, and hardware settings.
_KEPT = frozenset(
    {
        *("PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH", "JAVA_HOME", "VIRTUAL_ENV"),
        *("PYTHONPATH", "PYTHONHOME", *INTERPRETER),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    }
)
_KEPT_BEGINNINGS = ("AWS_", "MLFLOW_", "KOMMUNA_", "CUDA_", "NVIDIA_", "_RJEM_")
_PROXIES = frozenset({"http_proxy", "https_proxy", "no_proxy", "all_proxy"})


def apply(spec: StepSpec, *, keep_others: bool = False) -> None:
    """Sets this process's environment to that of a step.

    Args:
        spec: the step.
        keep_others: whether to keep the caller's other variables, for debugging.
    """
    for name in () if keep_others else list(os.environ):
        if not is_kept(name, spec):
            del os.environ[name]
    os.environ.update(_FIXED)
    os.environ.update(dict.fromkeys(_THREADS, str(threads(spec.resources))))
    time.tzset()


def is_kept(name: str, spec: StepSpec) -> bool:
    """Whether a step inherits a variable from its caller."""
    keys = {endpoint.key_variable for endpoint in spec.services.llm.endpoints.values()}
    return name in _KEPT or name in keys or name.startswith(_KEPT_BEGINNINGS) or name.lower() in _PROXIES
