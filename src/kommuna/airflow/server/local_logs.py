"""Task logs in files of this machine: the API server reads the end of a long one, instead of all of it.

Airflow finds `LOGGING_CONFIG` by `[logging] logging_config_class`.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import fsspec
from airflow.config_templates.airflow_local_settings import DEFAULT_LOGGING_CONFIG

from kommuna.airflow.server.log_reader import LogReader
from kommuna.airflow.server.task_logs import SHOWN, tail


class TailTaskHandler(LogReader):
    """Airflow's reader of task logs, which reads `SHOWN` bytes of a task's local logs at most, the last."""

    def _read_from_local(self, worker_log_path: Path) -> Any:
        sources, _whole = super()._read_from_local(worker_log_path)
        fs = fsspec.filesystem("file")
        most = SHOWN // max(len(sources), 1)
        texts = [tail(fs, name, fs.size(name), most) for name in sources]
        return sources, [(line for line in text.splitlines()) for text in texts]


LOGGING_CONFIG = copy.deepcopy(DEFAULT_LOGGING_CONFIG)
LOGGING_CONFIG["handlers"]["task"]["class"] = f"{__name__}.{TailTaskHandler.__name__}"
