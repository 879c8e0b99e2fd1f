"""`TeamGitBundle`: a team's repository at a run's commit, waited for while the Git server does not answer."""

from __future__ import annotations

import re
from collections.abc import Iterator

from airflow.providers.git.bundles.git import GitDagBundle
from git.exc import GitCommandError

from kommuna.errors import Outage
from kommuna.outages import wait_out

# What git says of a server that is away, or in trouble of its own (GitPython runs it in the locale C).
_AWAY = re.compile(
    r"could not resolve|temporary failure in name resolution|connection (refused|reset|timed out|closed)"
    r"|failed to connect|couldn't connect|unable to connect|timed? ?out|network is unreachable|no route to host"
    r"|returned error: (5\d\d|408|429)|empty reply from server|early eof|unexpected disconnect|hung up unexpectedly",
    re.IGNORECASE,
)
_WORDS = 300  # characters of git's own words in a message


class TeamGitBundle(GitDagBundle):
    """Airflow's Git bundle, for a task of a run: a server that is away is nobody's mistake.

    The DAG processor, which reads no version, is not kept waiting: it comes back by itself.
    """

    def _initialize(self) -> None:
        if self.version is None:
            super()._initialize()  # type: ignore[no-untyped-call]
        else:
            wait_out(self._fetched)

    def _fetched(self) -> None:
        try:
            super()._initialize()  # type: ignore[no-untyped-call]
        except Exception as error:
            said = "\n".join(e.stderr for e in _causes(error) if isinstance(e, GitCommandError))
            away = next((line for line in said.splitlines() if _AWAY.search(line)), None)
            if away is None:
                raise
            raise Outage(
                f"the Git server of bundle '{self.name}' does not answer: {away.strip()[:_WORDS]}",
                where=f"commit {self.version}",
            ) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
