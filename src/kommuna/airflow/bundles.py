"""`TeamGitBundle`: a team's repository at a run's commit. It waits while the Git server does not answer."""

from __future__ import annotations

import re
from collections.abc import Iterator

from airflow.providers.git.bundles.git import GitDagBundle
from git.exc import GitCommandError

from kommuna.errors import Outage
from kommuna.outages import wait_out

# Git's messages about a server that is unreachable or failing (GitPython runs git in the C locale).
_OUTAGE = re.compile(
    r"could not resolve|temporary failure in name resolution|connection (refused|reset|timed out|closed)"
    r"|failed to connect|couldn't connect|unable to connect|timed? ?out|network is unreachable|no route to host"
    r"|returned error: (5\d\d|408|429)|empty reply from server|early eof|unexpected disconnect|hung up unexpectedly",
    re.IGNORECASE,
)
_MAX_QUOTED = 300  # characters of git's message that are quoted


class TeamGitBundle(GitDagBundle):
    """Airflow's Git bundle, which waits out an outage of the Git server when it fetches the version of a run.

    The DAG processor asks for no version. It does not wait, since it refreshes the bundle again by itself.
    """

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


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
