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
from kommuna.errors import PlatformFault

LAST_WORDS = 4096  # bytes of what the inspection said last


def inspect(folder: Path, limits: Limits | None = None) -> Findings:
    """Findings of a bundle; its code is imported in processes of its own.

    Args:
        folder: the bundle.
        limits: of each file.
    Raises:
        PlatformFault: the inspection died.
    """
    with tempfile.TemporaryDirectory(prefix="kommuna-check-") as scratch:
        result, said = Path(scratch, "findings.json"), Path(scratch, "said")
        environment = {
            **os.environ,
            "AIRFLOW_HOME": scratch,
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "TMPDIR": scratch,  # what a file leaves there goes with it
        }
        command = [sys.executable, "-P", "-m", "kommuna.cli.check.inspection", str(folder), str(result)]
        with said.open("wb") as output:
            done = subprocess.run(
                [*command, json.dumps(asdict(limits or Limits()))],
                env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False,
            )  # fmt: skip
        if not result.exists():
            last = said.read_bytes()[-LAST_WORDS:].decode(errors="replace").strip().splitlines()
            raise PlatformFault(
                f"the check ended with code {done.returncode}: {last[-1] if last else 'it said nothing'}",
                where=str(folder),
                mend="run it again; if it ends so again, tell MLOps",
            )
        return Findings.model_validate_json(result.read_bytes())
