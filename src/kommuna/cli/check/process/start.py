"""Runs the inspection of a bundle in its own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from kommuna.cli.check.finding import BundleFindings
from kommuna.cli.check.process.limits import Limits
from kommuna.cli.run_dag.settings import secrets_settings
from kommuna.embedded.settings import state_folder
from kommuna.errors import KommunaError, PlatformFault
from kommuna.spec.installation import place_of

MAX_OUTPUT = 4096  # bytes from the end of the inspection's output


def inspect(folder: Path, limits: Limits | None = None) -> BundleFindings:
    """Checks a bundle, whose code is imported in separate processes.

    Args:
        folder: the bundle's folder.
        limits: the limits of each file.

    Raises:
        PlatformFault: the inspection crashed.
    """
    with tempfile.TemporaryDirectory(prefix="kommuna-check-", ignore_cleanup_errors=True) as scratch:
        result, log = Path(scratch, "findings.json"), Path(scratch, "log")
        environment = {
            **os.environ,
            "AIRFLOW_HOME": scratch,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "TMPDIR": scratch,  # temporary files of DAG files are removed with it
            **_team_secrets(folder),
        }
        command = [sys.executable, "-P", "-m", "kommuna.cli.check.inspection", str(folder), str(result)]
        with log.open("wb") as output:
            done = subprocess.run(
                [*command, json.dumps(asdict(limits or Limits())), str(os.getpid())],
                env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False,
            )  # fmt: skip
        if not result.exists():
            output_end = (log.read_bytes() if log.exists() else b"")[-MAX_OUTPUT:]
            last = output_end.decode(errors="replace").strip().splitlines()
            raise PlatformFault(
                f"the check ended with code {done.returncode}: {last[-1] if last else 'it printed nothing'}",
                where=str(folder),
                fix="run it again; if it fails again, ask MLOps",
            )
        return BundleFindings.model_validate_json(result.read_bytes())


def _team_secrets(folder: Path) -> dict[str, str]:
    """Returns the settings that let a file read the team's variables, if there is an embedded platform."""
    try:
        place = place_of(folder / "x.py")
    except KommunaError:
        return {}
    return secrets_settings(place) if state_folder(place.installation).is_dir() else {}
