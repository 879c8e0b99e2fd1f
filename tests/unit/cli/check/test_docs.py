"""docs/check.md: its command runs, and the limits are the documented ones."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kommuna.airflow.isolation.parser.child import MAX_FILE_BYTES
from kommuna.airflow.isolation.settings import ParserSettings
from kommuna.cli.check.inspection import MAX_SLOW_FILES
from kommuna.cli.check.process.jobs import MAX_PROCESSES
from kommuna.cli.check.process.limits import Limits
from kommuna.cli.main import app
from kommuna.spec.resources import memory_bytes


@pytest.mark.slow
def test_the_command_runs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"^```sh\n(.*?)^```", (root / "docs/check.md").read_text(), flags=re.M | re.S)
    monkeypatch.chdir(root)
    done = CliRunner().invoke(app, shlex.split(block)[1:])
    assert done.exit_code == 0, done.output


def test_the_limits_are_the_documented_ones(root: Path) -> None:
    text = (root / "docs/check.md").read_text()
    limits = Limits()
    assert f"{limits.seconds:g} s to import a file, {2 * limits.seconds:g} s in total" in text
    assert "after three files over the limit" in text
    assert MAX_SLOW_FILES == 3
    assert f"| memory | {limits.memory >> 20} MiB beyond" in text
    assert limits.memory == memory_bytes(ParserSettings.model_fields["memory"].default)
    assert f"| processes | {MAX_PROCESSES} at the same time" in text
    assert f"| files on disk | {MAX_FILE_BYTES >> 20} MiB" in text
