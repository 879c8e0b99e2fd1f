"""Imports once what DAG files import, so that each file's process, a fork, finds it in memory."""

from __future__ import annotations

import contextlib
import gc
import importlib

_MODULES = (
    "airflow.dag_processing.processor",
    "airflow.dag_processing.dagbag",
    "airflow.dag_processing.importers",
    "airflow.sdk",
    "airflow.sdk.execution_time.task_runner",
    "airflow.serialization.serialized_objects",
    "airflow.providers.standard.operators.bash",
    "airflow.providers.standard.operators.empty",
    "airflow.providers.standard.operators.python",
    "airflow.providers.standard.operators.trigger_dagrun",
    "airflow.providers.standard.sensors.external_task",
    "airflow.providers.cncf.kubernetes.pod_generator",
    "airflow.timetables.trigger",
    "kubernetes.client",
    "kommuna.airflow.admission.policies",
    "kommuna.airflow.dags.weak_supervision",
)

for _name in _MODULES:
    with contextlib.suppress(ImportError):  # an image may lack a provider
        importlib.import_module(_name)

gc.freeze()  # otherwise a fork copies every page at its first garbage collection
