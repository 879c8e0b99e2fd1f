"""The trusted half: `python -m kommuna.airflow.isolation.processor TEAM`, one process per team, in the control plane.

This is Airflow's DAG processor, except that the team's parser parses the files; here they are only listed. Neither a
file of the team nor a module that it names is imported.
"""

from __future__ import annotations

import functools
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, ClassVar

import attrs
from airflow.dag_processing.manager import DagFileInfo, DagFileStat
from airflow.dag_processing.processor import DagFileParsingResult, DagFileProcessorProcess
from pydantic import Field, TypeAdapter

from kommuna.airflow import dag_processor
from kommuna.airflow.isolation.listing import dag_files, is_plain
from kommuna.airflow.isolation.relay import FileToParse, ParserFault, relay
from kommuna.airflow.isolation.requests import TeamRequest
from kommuna.airflow.isolation.settings import ParserAddress
from kommuna.airflow.isolation.shipping import digest_of
from kommuna.errors import KommunaError, SpecError
from kommuna.spec.installation import find_installation
from kommuna.spec.team import Platform

ALIVE = Path(tempfile.gettempdir(), "kommuna-processor.alive")
RELAY_MARGIN_SECONDS = 3  # the relay gives up this much before the manager would kill it without a message
CALLBACK_RETRY_SECONDS = 5
CALLBACK_RETRIES = 120


class RelayedFile(DagFileProcessorProcess):
    """The processing of one file: the child process calls the parser instead of running team code."""

    decoder: ClassVar[TypeAdapter[Any]] = TypeAdapter(
        Annotated[DagFileParsingResult | ParserFault | TeamRequest, Field(discriminator="type")]
    )
    fault: ParserFault | None = None
    callbacks: tuple[Any, ...] = ()

    @classmethod
    def of_file(
        cls, file: FileToParse, *, path: Path, bundle_name: str, callbacks: list[Any], **options: Any
    ) -> RelayedFile:
        """Starts the child. Airflow's own `start` would first import modules that the file names into the manager.

        Args:
            file: the file, and the parser that parses it.
            path: the file's path at the processor.
            bundle_name: the name of its bundle.
            callbacks: Airflow's requests to run callbacks of the file's DAGs.
            **options: further arguments of Airflow's `start`.
        """
        started = super(DagFileProcessorProcess, cls).start(
            target=functools.partial(relay, file),
            bundle_name=bundle_name,
            dag_file_rel_path=file.relative,
            **options,
        )
        assert isinstance(started, cls)
        started.had_callbacks = bool(callbacks)
        started.callbacks = tuple(callbacks)
        started._on_child_started(callbacks, path, file.bundle, bundle_name)
        return started

    def _handle_request(self, msg: Any, log: Any, req_id: int) -> None:
        if isinstance(msg, ParserFault):
            self.fault = msg
            self.send_msg(None, request_id=req_id)
        else:
            super()._handle_request(msg, log, req_id)


@attrs.define(kw_only=True)
class RelayingManager(dag_processor.GracefulManager):
    """Airflow's manager for one team's bundles.

    Args:
        team: the team that owns the files.
        platform: all teams, for admission.
        parser: the address of the team's parser.
    """

    team: str
    platform: Platform
    parser: ParserAddress
    _unanswered: dict[DagFileInfo, None] = attrs.field(
        factory=dict, init=False
    )  # files that the parser did not answer for
    _waiting: list[tuple[float, Any]] = attrs.field(factory=list, init=False)  # callbacks, and when to retry them
    _tries: dict[str, int] = attrs.field(factory=dict, init=False)
    _digests: dict[Path, tuple[float, str]] = attrs.field(factory=dict, init=False)

    @functools.cached_property
    def client(self) -> Any:
        """The client that answers the requests of the team's files."""
        return dag_processor.client_of(self._api_server, self.team)

    def get_all_bundles(self) -> list[Any]:
        """Returns the team's bundles. Those of other teams are not created, since that reads their Git credentials."""
        from airflow.dag_processing.bundles.manager import DagBundlesManager

        bundles: Any = DagBundlesManager()  # type: ignore[no-untyped-call]
        return [bundles.get_bundle(name) for name in self.bundle_names_to_parse or ()]

    def _find_files_in_bundle(self, bundle: Any) -> list[Path]:
        return dag_files(bundle.path)

    def _create_process(self, dag_file: DagFileInfo) -> DagFileProcessorProcess:
        from airflow.configuration import conf
        from uuid6 import uuid7

        logger, logger_filehandle = self._get_logger_for_dag_file(dag_file)
        return RelayedFile.of_file(
            self._file_to_parse(dag_file),
            id=uuid7(),
            path=dag_file.absolute_path,
            bundle_name=dag_file.bundle_name,
            callbacks=self._callback_to_execute.pop(dag_file, []),
            selector=self.selector,
            logger=logger,
            logger_filehandle=logger_filehandle,
            subprocess_logs_to_stdout=conf.get("logging", "dag_processor_log_target") == "stdout",
            client=self.client,
        )

    def _file_to_parse(self, dag_file: DagFileInfo) -> FileToParse:
        """Describes a file for the child, with the version of the bundle that it belongs to."""
        assert dag_file.bundle_path is not None
        bundle = next(one for one in self._dag_bundles if one.name == dag_file.bundle_name)
        commit = self._bundle_versions.get(dag_file.bundle_name)
        repository: Path | None = getattr(bundle, "repo_path", None)
        if dag_file.bundle_version:  # a callback of an older run: the folder of its version does not change
            version, repository = dag_file.bundle_version, None
        elif commit and repository is not None:
            version = commit
        else:
            version, repository = self._digest(dag_file.bundle_path), None
        return FileToParse(
            parser=self.parser,
            team=self.team,
            platform=self.platform,
            relative=str(dag_file.rel_path),
            bundle=dag_file.bundle_path,
            version=version,
            repository=repository,
            below=str(getattr(bundle, "subdir", None) or ""),
            seconds=max(1, self.processor_timeout - RELAY_MARGIN_SECONDS),
        )

    def _digest(self, folder: Path) -> str:
        """Returns a version for a folder that has none, computed at most once per second."""
        now = time.monotonic()
        known = self._digests.get(folder)
        if known is None or now - known[0] > 1:
            known = self._digests[folder] = (now, digest_of(folder))
        return known[1]

    def handle_parsing_result(self, file: DagFileInfo, proc: Any, **options: Any) -> None:
        """Stores a result, or an error if there is none.

        If the parser does not answer, the file's DAGs stay as they are, next to an import error.
        """
        if proc.fault is not None:
            return self._handle_fault(file, proc)
        if proc.parsing_result is None and not proc.had_callbacks:
            return self._note_error(file, f"the relay of {file.rel_path} ended without a result: see its log", proc)
        if not is_plain(file.absolute_path.parents[len(file.rel_path.parts) - 1], file.rel_path):
            # Airflow now reads the code that the UI shows, and would follow a link that a newer commit put here.
            return self._note_error(file, f"{file.rel_path} is no longer a regular file", proc)
        self._unanswered.pop(file, None)
        try:
            super().handle_parsing_result(file, proc, **options)
        except Exception as error:
            self.log.exception("the result of %s cannot be stored", file.rel_path)
            self._note_error(file, f"the DAGs of {file.rel_path} cannot be stored: {type(error).__name__}", proc)

    def deactivate_stale_dags(self, last_parsed: dict[DagFileInfo, Any], **options: Any) -> None:
        """Deactivates DAGs that their files no longer define, except for files that the parser did not answer for."""
        super().deactivate_stale_dags(
            {f: when for f, when in last_parsed.items() if f not in self._unanswered}, **options
        )

    def fetch_callbacks(self) -> list[Any]:
        """Returns the callbacks of the database, and those to retry because the parser was unavailable."""
        now = time.monotonic()
        due = [request for when, request in self._waiting if when <= now]
        self._waiting = [(when, request) for when, request in self._waiting if when > now]
        return [*super().fetch_callbacks(), *due]

    def _handle_fault(self, file: DagFileInfo, proc: Any) -> None:
        if not proc.had_callbacks:
            return self._note_error(file, proc.fault.text, proc)
        for request in () if proc.fault.began else proc.callbacks:  # a callback that may have run is not repeated
            key = request.to_json()
            self._tries[key] = self._tries.get(key, 0) + 1
            if self._tries[key] <= CALLBACK_RETRIES:
                self._waiting.append((time.monotonic() + CALLBACK_RETRY_SECONDS, request))
            else:
                self.log.error("giving up on a callback of %s: %s", file.rel_path, proc.fault.text)
                del self._tries[key]
        self.log.warning("callbacks of %s: %s", file.rel_path, proc.fault.text)

    def _note_error(self, file: DagFileInfo, text: str, proc: Any) -> None:
        """Stores an import error and keeps the file's DAGs. Airflow's own function would deactivate them."""
        from airflow._shared.timezones import timezone
        from airflow.models.errors import ParseImportError
        from airflow.utils.session import create_session
        from sqlalchemy import delete

        self._unanswered[file] = None
        name = str(file.rel_path)
        with create_session() as session:
            session.execute(
                delete(ParseImportError).where(
                    ParseImportError.bundle_name == file.bundle_name, ParseImportError.filename == name
                )
            )
            session.add(
                ParseImportError(
                    bundle_name=file.bundle_name, filename=name, timestamp=timezone.utcnow(), stacktrace=text
                )
            )
        before = self._file_stats[file]
        self._file_stats[file] = DagFileStat(
            num_dags=before.num_dags,
            import_errors=1,
            last_finish_time=timezone.utcnow(),
            last_duration=time.monotonic() - proc.start_time,
            run_count=before.run_count + 1,
        )


def bundles_of(team: str) -> list[str]:
    """Returns the names of a team's bundles from Airflow's settings.

    Raises:
        SpecError: the team has no bundle.
    """
    from airflow.dag_processing.bundles.manager import DagBundlesManager

    bundles: Any = DagBundlesManager()  # type: ignore[no-untyped-call]
    names = [name for name, bundle in bundles._bundle_config.items() if bundle.team_name == team]
    if not names:
        raise SpecError(
            f"team '{team}' has no bundle",
            where="[dag_processor] dag_bundle_config_list",
            fix=f'give its bundle "team_name": "{team}"',
        )
    return names


def run(team: str, *, max_runs: int = -1) -> None:
    """Processes a team's files until it is stopped.

    Args:
        team: the team's name.
        max_runs: how often each file is parsed; -1 means without end.
    """
    installation = find_installation(Path.cwd())
    installation.require_team(team)
    manager = RelayingManager(
        max_runs=max_runs,
        bundle_names_to_parse=bundles_of(team),
        team=team,
        platform=installation.platform,
        parser=ParserAddress.of_environment(),
    )
    dag_processor.run(manager, beat=ALIVE.touch)


def main() -> None:
    """Runs the command line."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m kommuna.airflow.isolation.processor TEAM")
    dag_processor.start()
    try:
        run(sys.argv[1])
    except KommunaError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
