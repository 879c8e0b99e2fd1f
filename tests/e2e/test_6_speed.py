"""What a pod costs a step: in the worker pod, in its own image, and by KubernetesExecutor + KubernetesPodOperator.

Prints the ratio, of medians over runs that take turns; asserts no time.
"""

from __future__ import annotations

import json
import statistics
from datetime import datetime

from tests.e2e.installation import BUILD, Airflow, Installation

ROUNDS = 3
WAYS = ("in_worker", "pod_operator", "own_image")


def seconds(airflow: Airflow, dag: str) -> float:
    """Returns the wall time from the queueing of the task to its end."""
    run = airflow.trigger(f"bench__{dag}")
    run.succeed()
    task = run.tasks()["step"]
    begun, ended = (datetime.fromisoformat(task[name]) for name in ("queued_when", "end_date"))
    return (ended - begun).total_seconds()


def test_wall_time_of_a_step_compared_with_a_pod_operator(installation: Installation, airflow: Airflow) -> None:
    for way in WAYS:
        seconds(airflow, way)  # warm
    taken: dict[str, list[float]] = {way: [] for way in WAYS}
    for _ in range(ROUNDS):
        for way in WAYS:
            taken[way].append(seconds(airflow, way))
    medians = {way: statistics.median(found) for way, found in taken.items()}
    bare = bare_step(installation)
    over = {way: median - bare for way, median in medians.items()}
    line = {
        "bench": "one pod a step",
        "seconds": {way: round(found, 2) for way, found in medians.items()},
        "bare_seconds": round(bare, 2),
        "ratio_to_kubernetes_pod_operator": round(over["in_worker"] / over["pod_operator"], 3),
    }
    print("\n" + json.dumps(line))
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / "speed.json").write_text(json.dumps(line))
    assert set(medians) == set(WAYS)


def bare_step(installation: Installation) -> float:
    """Returns the seconds of the step alone, run in an existing pod."""
    spec = {
        "function": "kommuna.steps:check", "team": "bench", "cache": False,
        "store": {"url": "file:///tmp/store"},
    }  # fmt: skip
    code = (
        "import subprocess, sys, time; began = time.monotonic();"
        f" subprocess.run([sys.executable, '-m', 'kommuna.runtime', '--spec-json', {json.dumps(spec)!r}],"
        " check=True, stdout=subprocess.DEVNULL); print(time.monotonic() - began)"
    )
    output = installation.cluster.kubectl(
        "-n", CONTROL_MLFLOW[0], "exec", CONTROL_MLFLOW[1], "--", "python", "-c", code
    )
    return float(output.split()[-1])


CONTROL_MLFLOW = ("kommuna", "deploy/kommuna-mlflow")
