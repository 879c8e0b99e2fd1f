"""Task logs in the artifact store: a worker uploads them below its team's prefix, the API server reads them there.

Airflow finds both names here by `[logging] logging_config_class`. A log's path begins with its team (the chart sets
`log_filename_template`), so a worker's own credentials of the store are enough.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.config_templates.airflow_local_settings import DEFAULT_LOGGING_CONFIG

from kommuna.spec.installation import find_installation

if TYPE_CHECKING:
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

LOGGING_CONFIG = DEFAULT_LOGGING_CONFIG


class StoreLogs:
    """Airflow's `RemoteLogIO` over the store of kommuna.yaml."""

    processors = ()

    def upload(self, path: os.PathLike[str] | str, ti: RuntimeTaskInstanceProtocol | None = None) -> None:
        """Puts a task's log into the store.

        Args:
            path: relative to the log folder.
        """
        from airflow.sdk.configuration import conf

        local = Path(conf.get("logging", "base_log_folder"), path)
        if local.is_file():
            fs, root = self._file_system()
            fs.put_file(str(local), f"{root}/{path}")

    def read(self, relative_path: str, ti: RuntimeTaskInstanceProtocol) -> tuple[list[str], list[str] | None]:
        """Where a task's log is, and its text; None where there is none yet."""
        fs, root = self._file_system()
        where = f"{root}/{relative_path}"
        try:
            return [str(fs.unstrip_protocol(where))], [fs.cat_file(where).decode("utf-8", errors="replace")]
        except FileNotFoundError:
            return [], None
        except OSError as error:
            return [f"{fs.unstrip_protocol(where)}: {error}"], None

    @staticmethod
    def _file_system() -> tuple[Any, str]:
        """The store's file system and its root, without a cached listing."""
        import fsspec

        address = find_installation(Path.cwd()).store()
        fs, root = fsspec.core.url_to_fs(address.url, **{**address.options, "use_listings_cache": False})
        return fs, root.rstrip("/")


REMOTE_TASK_LOG = StoreLogs()
