"""What was started for a while is stopped by who started it, unless somebody has asked for it since."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path

import pytest

from kommuna.embedded import Embedded
from kommuna.spec.installation import Installation
from kommuna.spec.team import Platform


@pytest.fixture
def platform(tmp_path: Path) -> Embedded:
    made = Embedded(Installation(Platform.model_validate({"teams": {"support": {"bundle": "dags"}}}), tmp_path))
    made.state.mkdir()
    return made


@pytest.mark.parametrize("keep", [False, True])
def test_release_stops_what_nobody_keeps(platform: Embedded, monkeypatch: pytest.MonkeyPatch, keep: bool) -> None:
    stopped = []
    monkeypatch.setattr(Embedded, "_stop", lambda self: stopped.append(self) or True)
    assert not platform.release()
    (platform.state / "running.json").write_text(json.dumps({"description": "x", "keep": keep}))
    assert platform.release() is not keep
    assert len(stopped) == (0 if keep else 1)


def test_a_start_that_is_going_on_is_seen_by_others(platform: Embedded) -> None:
    assert not platform.is_busy()
    with platform._alone(lambda line: None):
        assert platform.is_busy()
    assert not platform.is_busy()
    with (platform.state / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert platform.is_busy()


def test_a_platform_that_is_down_has_nothing_left(platform: Embedded) -> None:
    assert platform.orphan_count() == 0
    assert platform.status() == []
