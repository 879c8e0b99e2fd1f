"""Runs the inspection of a bundle in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from kommuna.cli.check.finding import Findings
from kommuna.errors import PlatformFault


def inspect(folder: Path) -> Findings:
    """Findings of a bundle; its code is imported in a process of its own.

    Raises:
        PlatformFault: that process died.
    """
    with tempfile.TemporaryDirectory(prefix="kommuna-check-") as scratch:
        result = Path(scratch, "findings.json")
        environment = {**os.environ, "AIRFLOW_HOME": scratch, "AIRFLOW__CORE__LOAD_EXAMPLES": "False"}
        done = subprocess.run(
            [sys.executable, "-m", "kommuna.cli.check.inspection", str(folder), str(result)],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if not result.exists():
            lines = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()
            raise PlatformFault(
                f"the bundle's code ended the check: {lines[-1]}",
                where=str(folder),
                mend="run its DAG files with python",
            )
        return Findings.model_validate_json(result.read_bytes())
