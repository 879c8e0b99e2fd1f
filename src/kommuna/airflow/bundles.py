"""A team's bundles: `TeamGitBundle` in the control plane, with the Git credential; `PublishedBundle` in workers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import structlog
from airflow.dag_processing.bundles.base import BaseDagBundle, BundleVersion
from airflow.providers.git.bundles.git import GitDagBundle
from git.exc import GitCommandError

from kommuna.airflow.isolation import code_store
from kommuna.errors import DataError, Outage
from kommuna.outages import wait_out
from kommuna.spec.installation import find_installation
from kommuna.store.files import TeamFiles

log = structlog.get_logger(logger_name="bundles")

# Git's messages about a server that is unreachable or failing (GitPython runs git in the C locale).
_OUTAGE = re.compile(
    r"could not resolve|temporary failure in name resolution|connection (refused|reset|timed out|closed)"
    r"|failed to connect|couldn't connect|unable to connect|timed? ?out|network is unreachable|no route to host"
    r"|returned error: (5\d\d|408|429)|empty reply from server|early eof|unexpected disconnect|hung up unexpectedly",
    re.IGNORECASE,
)
_MAX_QUOTED = 300  # characters of git's message that are quoted


class TeamGitBundle(GitDagBundle):
    """Airflow's Git bundle, which publishes each version's folder to the team's part of the store.

    It waits out an outage of the Git server when it fetches the version of a run. The DAG processor asks for no
    version, and it does not wait, since it refreshes the bundle again by itself. Nor does it go on to a version before
    that is published, so no run begins with a version that its workers cannot fetch.
    """

    _published: set[str] | None = None

    def refresh(self) -> None:
        """Fetches the newest commit and publishes it; the first time, also those of all runs that may go on.

        Raises:
            StoreError: it cannot be published.
        """
        super().refresh()
        newest: Any = self.get_current_version()
        wanted = {str(newest.version)}
        if self._published is not None and wanted <= self._published:
            return
        below = str(self.subdir or "")
        files = _files(self.name)
        if self._published is None:
            wanted |= _versions_of_runs(self.name) - code_store.published(files, below)
            self._published = set()
        for commit in sorted(wanted - self._published):
            try:
                code_store.publish(files, self.bare_repo_path, commit, below=below)
            except DataError as error:  # the parser reports a bundle that is too large; an old commit may be gone
                log.warning("code.not_published", bundle=self.name, commit=commit, reason=error.what)
            self._published.add(commit)

    def _initialize(self) -> None:
        if self.version is None:
            super()._initialize()  # type: ignore[no-untyped-call]
        else:
            wait_out(self._fetch)

    def _fetch(self) -> None:
        try:
            super()._initialize()  # type: ignore[no-untyped-call]
        except Exception as error:
            stderr = "\n".join(e.stderr for e in _causes(error) if isinstance(e, GitCommandError))
            outage = next((line for line in stderr.splitlines() if _OUTAGE.search(line)), None)
            if outage is None:
                raise
            raise Outage(
                f"the Git server of bundle '{self.name}' does not answer: {outage.strip()[:_MAX_QUOTED]}",
                where=f"commit {self.version}",
            ) from error


class PublishedBundle(BaseDagBundle):
    """A team's bundle in a worker, which has no Git credential: the folder of the run's commit, from the store.

    Args:
        subdir: the bundle's folder in its repository.
    """

    supports_versioning = True

    def __init__(self, *, subdir: str = "", **options: Any) -> None:
        super().__init__(**options)
        self._below = subdir

    def initialize(self) -> None:
        """Fetches the folder. An outage of the store is waited out.

        Raises:
            DataError: the run has no version.
            KommunaError: the folder cannot be fetched, or is not that of the version.
        """
        version = self.version
        if version is None:
            raise DataError(f"a task of bundle '{self.name}' has no version to run", fix="trigger the DAG again")
        with self.lock():
            files = _files(self.name)
            wait_out(lambda: code_store.fetch(files, version, self.versions_dir, below=self._below))
        super().initialize()

    @property
    def path(self) -> Path:
        """The folder of the version."""
        return self.versions_dir / str(self.version)

    def get_current_version(self) -> BundleVersion | None:
        """Returns the version that the task was started with."""
        return BundleVersion(version=self.version) if self.version else None

    def refresh(self) -> None:
        """Does nothing: a version never changes."""


def _files(team: str) -> TeamFiles:
    return TeamFiles(find_installation(Path.cwd()).store(), team)


def _versions_of_runs(bundle: str) -> set[str]:
    """Returns the versions of a bundle that runs have, and keep when they go on or are cleared."""
    from airflow.models.dag import DagModel
    from airflow.models.dagrun import DagRun
    from airflow.utils.session import create_session
    from sqlalchemy import select

    runs = (
        select(DagRun.bundle_version)
        .distinct()
        .join(DagModel, DagModel.dag_id == DagRun.dag_id)
        .where(DagModel.bundle_name == bundle, DagRun.bundle_version.is_not(None))
    )
    with create_session() as session:
        return {str(version) for version in session.scalars(runs)}


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
