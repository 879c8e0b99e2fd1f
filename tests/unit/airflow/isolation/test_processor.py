"""The trusted half stops on a signal, even if the signal arrives while a lock is held."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from kommuna.airflow.isolation.processor import RelayingManager
from kommuna.airflow.isolation.settings import ParserAddress
from kommuna.spec.installation import find_installation


def test_a_signal_while_a_lock_is_held_does_not_deadlock(platform: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = threading.Lock()
    ended: list[str] = []

    def end_children(self: RelayingManager) -> None:
        assert lock.acquire(timeout=1), "the signal's handler wants what the interrupted code holds"
        lock.release()
        ended.append("children")

    monkeypatch.setattr(RelayingManager, "terminate", end_children)
    manager = RelayingManager(
        max_runs=-1,
        bundle_names_to_parse=["support"],
        team="support",
        platform=find_installation(platform).platform,
        parser=ParserAddress(address="localhost:8794", ca=platform / "ca.crt", token="t"),
    )
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)}
    try:
        manager.register_exit_signals()
        manager.exit_if_signalled()
        with lock:
            os.kill(os.getpid(), signal.SIGTERM)
        assert ended == []
        with pytest.raises(SystemExit) as exit_:
            manager.exit_if_signalled()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert exit_.value.code == 0
    assert ended == ["children"]
