"""A failed start shows the end of the failed process's log."""

from __future__ import annotations

from pathlib import Path

import pytest

from kommuna.embedded.health import failed_start, unhealthy, wait_healthy
from kommuna.errors import PlatformFault
from kommuna.spec.installation import Installation
from kommuna.spec.team import Platform


def test_an_error_holds_the_last_lines_of_the_log_and_its_path(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    log = tmp_path / "logs/scheduler.log"
    log.write_text("".join(f"line {i}\n\n" for i in range(100)) + "ImportError: no module x\n")
    error = failed_start(tmp_path, "scheduler", "scheduler does not start")
    assert error.what == "scheduler does not start"
    assert error.where == str(log)
    assert "line 99\n      ImportError: no module x" in error.fix
    assert "line 50" not in error.fix


def test_an_empty_log_is_reported_as_such(tmp_path: Path) -> None:
    assert failed_start(tmp_path, "mlflow", "x").fix.endswith("(nothing)")


def test_without_supervisord_everything_is_unhealthy_and_a_start_fails(tmp_path: Path) -> None:
    installation = Installation(Platform.model_validate({"teams": {"support": {"bundle": "dags"}}}), tmp_path)
    assert list(unhealthy(installation)) == [
        "postgres", "api-server", "scheduler", "dag-processor", "triggerer", "mlflow", "watch"
    ]  # fmt: skip
    with pytest.raises(PlatformFault, match="supervisord died"):
        wait_healthy(installation)
