"""What the guard adds to an Execution API request: the same application with and without it, request by request."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
PLATFORM = "teams:\n  support: {bundle: dags/support}\n  fraud: {bundle: dags/fraud}\n"


def results() -> Iterator[dict[str, Any]]:
    """Yields for each kind of request the median seconds with the guard (`ours`) and without (`peer`)."""
    with tempfile.TemporaryDirectory(prefix="kommuna-bench-") as name:
        done = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks._execution_api"],
            env=_environment(Path(name)), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True,
        )  # fmt: skip
        for line in done.stdout.decode().splitlines():
            if line.startswith("{"):
                yield json.loads(line)


def _environment(folder: Path) -> dict[str, str]:
    for team in ("support", "fraud"):
        (folder / "dags" / team).mkdir(parents=True)
    (folder / "kommuna.yaml").write_text(PLATFORM)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "KOMMUNA"))}
    return {
        **kept,
        "AIRFLOW_HOME": str(folder / "airflow"),
        "AIRFLOW__CORE__MULTI_TEAM": "True",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor;support=LocalExecutor;fraud=LocalExecutor",
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "src/kommuna/airflow/plugins"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db?timeout=60",
        "AIRFLOW__API_AUTH__JWT_SECRET": "s" * 64,
        "KOMMUNA_PLATFORM": str(folder / "kommuna.yaml"),
    }
