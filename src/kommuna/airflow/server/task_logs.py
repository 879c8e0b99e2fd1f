"""Task logs in the artifact store: a worker uploads them below its team's prefix, the API server reads them.

Airflow finds both names here by `[logging] logging_config_class`. A log's path begins with its team (the chart sets
`log_filename_template`), so the worker's own store credentials are enough.
"""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.config_templates.airflow_local_settings import DEFAULT_LOGGING_CONFIG

from kommuna.outages import wait_out
from kommuna.spec.installation import find_installation
from kommuna.store.faults import store_error

if TYPE_CHECKING:
    from airflow.sdk.types import RuntimeTaskInstanceProtocol

LOGGING_CONFIG = copy.deepcopy(DEFAULT_LOGGING_CONFIG)
LOGGING_CONFIG["handlers"]["task"]["class"] = "kommuna.airflow.server.log_reader.LogReader"
SHOWN = 8 * 1024 * 1024  # bytes of a task's logs that are read at most
_MOST_TRIGGERS = 15  # whose logs are read, the last


class StoreLogs:
    """Airflow's `RemoteLogIO` over the store of kommuna.yaml."""

    processors = ()

    def upload(self, path: os.PathLike[str] | str, ti: RuntimeTaskInstanceProtocol | None = None) -> None:
        """Uploads a task's log, appending to an existing log: a deferred task continues in another pod.

        Args:
            path: the log file, relative to the log folder.
            ti: the task instance; unused.

        Raises:
            StoreError: the store refuses, or an outage outlasted the retries.
        """
        from airflow.sdk.configuration import conf

        local = Path(conf.get("logging", "base_log_folder"), path)
        if local.is_file():
            wait_out(lambda: self._put(local, str(path)))

    def _put(self, local: Path, path: str) -> None:
        fs, root = self._file_system()
        where = f"{root}/{path}"
        try:
            # Look in a listing: for a missing object, a team with rights on its prefix only gets "forbidden".
            earlier = fs.cat_file(where) if where in self._beside(fs, where) else b""
            if earlier and not (written := local.read_bytes()).startswith(earlier):
                fs.pipe_file(where, earlier + written)
            else:
                fs.put_file(str(local), where)
        except Exception as error:
            raise store_error(error, where) from error

    def read(self, relative_path: str, ti: RuntimeTaskInstanceProtocol) -> tuple[list[str], list[str] | None]:
        """Returns the addresses and texts of a task's log and its triggers' logs; None for the texts if none exist.

        The API server holds these texts in memory for all teams, so it reads `SHOWN` bytes of them at most, the last.
        """
        fs, root = self._file_system()
        where = f"{root}/{relative_path}"
        try:
            sizes = self._beside(fs, where)
            triggers = sorted(name for name in sizes if name.startswith(f"{where}.trigger."))
            found = [*(name for name in (where,) if name in sizes), *triggers[-_MOST_TRIGGERS:]]
            texts = [tail(fs, name, sizes[name], SHOWN // len(found)) for name in found]
        except OSError as error:
            return [f"{fs.unstrip_protocol(where)}: {error}"], None
        return [str(fs.unstrip_protocol(name)) for name in found], texts or None

    @staticmethod
    def _beside(fs: Any, where: str) -> dict[str, int]:
        """Returns the sizes of the files in a file's folder, in bytes, by path; empty if the folder does not exist."""
        try:
            return {entry["name"]: int(entry["size"] or 0) for entry in fs.ls(where.rpartition("/")[0], detail=True)}
        except FileNotFoundError:
            return {}

    @staticmethod
    def _file_system() -> tuple[Any, str]:
        """Returns the store's file system, with listings uncached, and its root."""
        import fsspec

        address = find_installation(Path.cwd()).store()
        fs, root = fsspec.core.url_to_fs(address.url, **{**address.options, "use_listings_cache": False})
        return fs, root.rstrip("/")


def tail(fs: Any, name: str, size: int, most: int) -> str:
    """Reads a log of `size` bytes; of one longer than `most`, its last whole lines, below a line that says so.

    Args:
        fs: the log store, an fsspec file system.
        name: the log's path.
        size: its size in bytes.
        most: the maximum size of the result in bytes, without the line above it.
    """
    if not size:
        return ""
    tail = str(fs.cat_file(name, start=max(size - most, 0), end=size).decode("utf-8", errors="replace"))
    if size <= most:
        return tail
    first, newline, rest = tail.partition("\n")
    said = f"The log has {size:,} bytes; these are the last {most:,}. All of it: {fs.unstrip_protocol(name)}"
    return f"{said}\n{rest if newline else first}"


REMOTE_TASK_LOG = StoreLogs()
