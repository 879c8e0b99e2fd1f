"""How Airflow's servers read task logs: from the store or the disk, and never from the host that a task names.

Airflow finds the class by the logging configurations in `task_logs` and `local_logs`.
"""

from __future__ import annotations

from typing import Any

from airflow.utils.log.file_task_handler import FileTaskHandler


class LogReader(FileTaskHandler):
    """Airflow's reader of task logs, which asks triggerers and no worker.

    A task's process reports its own host: its team would choose what the API server opens, and sees the answer.
    """

    def _read_from_logs_server(self, ti: Any, worker_log_rel_path: str) -> Any:
        if getattr(ti, "triggerer_job", None) is None:
            return [], []
        return super()._read_from_logs_server(ti, worker_log_rel_path)
