"""Restarts programs that supervisord does not: those that failed for good, and those that hang.

Run as `python -m kommuna.embedded.watch`. supervisord restarts a process that exits, up to three times in a row. It
does not notice a scheduler whose loop hangs, or a server that stopped answering, and it gives up on a process that died
too often, for example because of a full disk.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from kommuna.embedded import supervision
from kommuna.embedded.liveness import Liveness, check_liveness
from kommuna.embedded.settings import state_folder
from kommuna.spec.installation import Installation, find_installation

PROGRAM = "watch"
SILENCE_SECONDS = 90.0  # heartbeats are 5 s apart; measured: 20 s on two cores with ten times the load
STARTING_SECONDS = 900.0  # until the first heartbeat; measured: 330 s on two cores with fifteen times the load
_ROUND_SECONDS = 5.0
REST_SECONDS = 15.0
_log = logging.getLogger(PROGRAM)


class Watch:
    """The state that the watch keeps between rounds.

    Args:
        clock: returns the seconds since the epoch.
        silence_seconds: the longest time between two heartbeats of a process.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time, silence_seconds: float = SILENCE_SECONDS) -> None:
        self._clock = clock
        self._silence_seconds = silence_seconds
        self._last_round = clock()
        self._last_heartbeats: dict[str, float] = {}
        self._excused: dict[str, float] = {}
        self._gave_up: dict[str, float] = {}

    def given_up(self, infos: Iterable[Mapping[str, Any]]) -> list[str]:
        """Returns the programs to start again: those that supervisord gave up on, after a pause.

        Args:
            infos: supervisord's information about each program.
        """
        now = self._clock()
        fatal = {info["name"] for info in infos if info["statename"] == "FATAL"}
        self._gave_up = {name: self._gave_up.get(name, now) for name in fatal}
        due = sorted(name for name, since in self._gave_up.items() if now - since >= REST_SECONDS)
        for name in due:
            del self._gave_up[name]
        return due

    def hanging(self, infos: Iterable[Mapping[str, Any]], found: Mapping[str, Liveness]) -> dict[str, float]:
        """Returns the programs to restart, with the seconds since their last heartbeat: they run, but hang.

        A program is excused while the process that reports on it is unavailable. All programs are excused after this
        process itself stood still, as on a laptop that slept.

        Args:
            infos: supervisord's information about each program.
            found: the liveness of each running program.
        """
        now = self._clock()
        slept, self._last_round = now - self._last_round > self._silence_seconds / 2, now
        silent = {}
        for info in infos:
            name = info["name"]
            liveness = found.get(name)
            if liveness is None or slept or not liveness.known:
                self._excused[name] = now
                continue
            if (
                not liveness.trouble and liveness.heartbeat is None
            ):  # a heartbeat may be the last one of its predecessor
                self._last_heartbeats[name] = now
            last_heartbeat = max(self._last_heartbeats.get(name, 0), liveness.heartbeat or 0)
            allowed = self._silence_seconds if last_heartbeat > info["start"] else STARTING_SECONDS
            silence = now - max(last_heartbeat, info["start"], self._excused.get(name, 0))
            if info["statename"] == "RUNNING" and silence > allowed:
                silent[name] = silence
        return silent


def watch_round(watch: Watch, installation: Installation) -> None:
    """Checks all programs once and restarts those that need it."""
    state = state_folder(installation)
    supervisor = supervision.client(state)
    if supervisor is None or not supervision.running_file(state).exists():
        return
    infos = [info for info in supervisor.getAllProcessInfo() if info["name"] != PROGRAM]
    for name in watch.given_up(infos):
        _log.warning("%s had failed for good: restarting it", name)
        supervision.start_program(supervisor, name)
    running = [info["name"] for info in infos if info["statename"] == "RUNNING"]
    for name, silence in watch.hanging(infos, check_liveness(installation, running)).items():
        _log.warning("%s has sent no heartbeat for %.0f seconds: restarting it", name, silence)
        supervision.restart_program(supervisor, name)


def main() -> None:
    """Checks every few seconds, without end."""
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    logging.raiseExceptions = False  # logging fails on a full disk
    installation, watch = find_installation(Path.cwd()), Watch()
    while True:
        try:
            watch_round(watch, installation)
        except Exception:
            _log.exception("this round failed")
        time.sleep(_ROUND_SECONDS)


if __name__ == "__main__":
    main()
