"""Runs the inspection of a bundle in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from kommuna.cli.check.finding import Findings
from kommuna.cli.check.process.limits import Limits
from kommuna.cli.run_dag.settings import secrets_settings
from kommuna.embedded.settings import state_folder
from kommuna.errors import KommunaError, PlatformFault
from kommuna.spec.installation import place_of

LAST_WORDS = 4096  # bytes of what the inspection said last


def inspect(folder: Path, limits: Limits | None = None) -> Findings:
    """Findings of a bundle; its code is imported in processes of its own.

    Args:
        folder: the bundle.
        limits: of each file.

    Raises:
        PlatformFault: the inspection died.
    """
    with tempfile.TemporaryDirectory(prefix="kommuna-check-", ignore_cleanup_errors=True) as scratch:
        result, said = Path(scratch, "findings.json"), Path(scratch, "said")
        environment = {
            **os.environ,
            "AIRFLOW_HOME": scratch,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "TMPDIR": scratch,  # what a file leaves there goes with it
            **_team_secrets(folder),
        }
        command = [sys.executable, "-P", "-m", "kommuna.cli.check.inspection", str(folder), str(result)]
        with said.open("wb") as output:
            done = subprocess.run(
                [*command, json.dumps(asdict(limits or Limits())), str(os.getpid())],
                env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False,
            )  # fmt: skip
        if not result.exists():
            output_end = (said.read_bytes() if said.exists() else b"")[-LAST_WORDS:]
            last = output_end.decode(errors="replace").strip().splitlines()
            raise PlatformFault(
                f"the check ended with code {done.returncode}: {last[-1] if last else 'it said nothing'}",
                where=str(folder),
                fix="run it again; if it ends so again, tell MLOps",
            )
        return Findings.model_validate_json(result.read_bytes())


def _team_secrets(folder: Path) -> dict[str, str]:
    """Settings by which a file finds the team's variables at its top, where there is an embedded platform to ask."""
    try:
        place = place_of(folder / "x.py")
    except KommunaError:
        return {}
    return secrets_settings(place) if state_folder(place.installation).is_dir() else {}
