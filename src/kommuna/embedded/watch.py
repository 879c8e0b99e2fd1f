"""`python -m kommuna.embedded.watch`: starts again what supervisord does not: what has given up, and what stands still.

supervisord restarts a process that ends, three times in a row. It does not see a scheduler whose loop stands still, nor
a server that does not answer any more, and what has died too often (a full disk does that) it leaves alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from kommuna.embedded import supervision
from kommuna.embedded.settings import state_folder
from kommuna.embedded.signs import Sign, signs
from kommuna.spec.installation import Installation, find_installation

PROGRAM = "watch"
SILENCE_SECONDS = 90.0  # heartbeats are 5 s apart; 20 s were seen on two cores with ten times the work
STARTING_SECONDS = 900.0  # until the first sign; 330 were seen on two cores with fifteen times the work
_ROUND_SECONDS = 5.0
REST_SECONDS = 15.0
_log = logging.getLogger(PROGRAM)


class Watch:
    """What is remembered from one round to the next.

    Args:
        clock: seconds since the epoch.
        silence_seconds: how long a process that has given a sign of life may give no other.
    """

    def __init__(self, *, clock: Callable[[], float] = time.time, silence_seconds: float = SILENCE_SECONDS) -> None:
        self._clock = clock
        self._silence_seconds = silence_seconds
        self._last_round = clock()
        self._heard: dict[str, float] = {}
        self._excused: dict[str, float] = {}
        self._gave_up: dict[str, float] = {}

    def given_up(self, infos: Iterable[Mapping[str, Any]]) -> list[str]:
        """Programs to start again: those that supervisord has given up, after a rest.

        Args:
            infos: what supervisord says of each.
        """
        now = self._clock()
        fatal = {info["name"] for info in infos if info["statename"] == "FATAL"}
        self._gave_up = {name: self._gave_up.get(name, now) for name in fatal}
        due = sorted(name for name, since in self._gave_up.items() if now - since >= REST_SECONDS)
        for name in due:
            del self._gave_up[name]
        return due

    def standing_still(self, infos: Iterable[Mapping[str, Any]], found: Mapping[str, Sign]) -> dict[str, float]:
        """Programs to restart, with the seconds of their silence: they run, and have long given no sign of life.

        A program that is heard of by another, which is in trouble itself, is not blamed for it. Nor is any where this
        process itself stood still, as all do on a laptop that slept.

        Args:
            infos: what supervisord says of each.
            found: a sign of each that runs.
        """
        now = self._clock()
        slept, self._last_round = now - self._last_round > self._silence_seconds / 2, now
        silent = {}
        for info in infos:
            name = info["name"]
            sign = found.get(name)
            if sign is None or slept or not sign.known:
                self._excused[name] = now
                continue
            if not sign.trouble and sign.heartbeat is None:  # else it may be the last one of an earlier life
                self._heard[name] = now
            heard = max(self._heard.get(name, 0), sign.heartbeat or 0)
            allowed = self._silence_seconds if heard > info["start"] else STARTING_SECONDS
            silence = now - max(heard, info["start"], self._excused.get(name, 0))
            if info["statename"] == "RUNNING" and silence > allowed:
                silent[name] = silence
        return silent


def watch_round(watch: Watch, installation: Installation) -> None:
    """One look at everything."""
    state = state_folder(installation)
    supervisor = supervision.client(state)
    if supervisor is None or not supervision.running_file(state).exists():
        return
    infos = [info for info in supervisor.getAllProcessInfo() if info["name"] != PROGRAM]
    for name in watch.given_up(infos):
        _log.warning("%s had given up: it is started again", name)
        supervision.start_program(supervisor, name)
    running = [info["name"] for info in infos if info["statename"] == "RUNNING"]
    for name, silence in watch.standing_still(infos, signs(installation, running)).items():
        _log.warning("%s has given no sign of life for %.0f seconds: it is restarted", name, silence)
        supervision.restart_program(supervisor, name)


def main() -> None:
    """Looks every few seconds, for as long as it is let."""
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    logging.raiseExceptions = False  # a full disk takes no log
    installation, watch = find_installation(Path.cwd()), Watch()
    while True:
        try:
            watch_round(watch, installation)
        except Exception:
            _log.exception("this round failed")
        time.sleep(_ROUND_SECONDS)


if __name__ == "__main__":
    main()
