"""A platform that was started temporarily is stopped again, unless it was kept since."""

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
def test_release_stops_a_platform_that_nobody_keeps(
    platform: Embedded, monkeypatch: pytest.MonkeyPatch, keep: bool
) -> None:
    stopped = []
    monkeypatch.setattr(Embedded, "_stop", lambda self: stopped.append(self) or True)
    assert not platform.release()
    (platform.state / "running.json").write_text(json.dumps({"description": "x", "keep": keep}))
    assert platform.release() is not keep
    assert len(stopped) == (0 if keep else 1)


def test_a_start_in_progress_is_visible_to_others(platform: Embedded) -> None:
    assert not platform.is_busy()
    with platform._alone(lambda line: None):
        assert platform.is_busy()
    assert not platform.is_busy()
    with (platform.state / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert platform.is_busy()


def test_a_stopped_platform_has_no_orphans(platform: Embedded) -> None:
    assert platform.orphan_count() == 0
    assert platform.status() == []
