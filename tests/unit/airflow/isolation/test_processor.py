"""How the trusted half ends: a signal that comes while a lock is held waits for nothing."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest

from kommuna.airflow.isolation.processor import RelayingManager
from kommuna.airflow.isolation.settings import ParserAddress
from kommuna.spec.installation import find_installation


def test_a_signal_within_a_lock_of_the_database_or_the_log_does_not_wait_for_itself(
    platform: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
        manager.end_if_asked()
        with lock:
            os.kill(os.getpid(), signal.SIGTERM)
        assert ended == []
        with pytest.raises(SystemExit) as exit_:
            manager.end_if_asked()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert exit_.value.code == 0
    assert ended == ["children"]
