"""One demo of a platform at a time."""

from __future__ import annotations

import io
import threading
from pathlib import Path

from rich.console import Console

from kommuna.cli import demo
from kommuna.embedded import Embedded
from kommuna.spec.installation import Installation
from kommuna.spec.team import Platform


def test_a_second_demo_reports_that_it_waits_and_runs_after_the_first(tmp_path: Path) -> None:
    platform = Embedded(Installation(Platform.model_validate({"teams": {"support": {"bundle": "dags"}}}), tmp_path))
    said, order = io.StringIO(), []

    def second() -> None:
        with demo._alone(platform, Console(file=said)):
            order.append("second")

    with demo._alone(platform, Console(file=io.StringIO())):
        thread = threading.Thread(target=second)
        thread.start()
        while "waiting for another demo of this platform" not in said.getvalue():
            assert thread.is_alive()
        order.append("first")
    thread.join(timeout=30)
    assert order == ["first", "second"]
