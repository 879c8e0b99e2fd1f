"""DAG files that nobody here wrote, in a team's bundle as they are: Airflow's examples and the standard provider's.

`check` and the platform say the same of each file, and runs of a core end as they do elsewhere. `make examples` loads
every file (KOMMUNA_EXAMPLES=all); otherwise the core's and those that are refused are loaded.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import airflow.example_dags
import airflow.providers.standard.example_dags
import pytest
from tests.dag_runs import DagRuns

if TYPE_CHECKING:
    from tests.integration.conftest import Site

# What the platform refuses in a team's file, and why: the words of both `check` and the import error.
REFUSED = {
    "example_asset_with_watchers.py": "has a watcher",
    "example_custom_weight.py": "Unknown priority strategy",
    "example_kubernetes_executor.py": "sets executor_config (pod_override)",
    "example_local_kubernetes_executor.py": "sets executor_config (pod_override)",
    "example_workday_timetable.py": "has the timetable airflow.example_dags.plugins.workday.AfterWorkdayTimetable",
}
# Files of the core, with their DAGs and the state in which a run of each ends.
CORE = {
    "example_asset_decorator.py": {"asset2_producer": "success"},
    "example_bash_decorator.py": {"example_bash_decorator": "success"},
    "example_branch_labels.py": {"example_branch_labels": "success"},
    "example_dynamic_task_mapping.py": {"example_dynamic_task_mapping": "success"},
    "example_failed_dag.py": {"example_failed_dag": "failed"},
    "example_setup_teardown_taskflow.py": {"example_setup_teardown_taskflow": "success"},
    "example_short_circuit_operator.py": {"example_short_circuit_operator": "success"},
    "example_task_group_decorator.py": {"example_task_group_decorator": "success"},
    "example_trigger_controller_dag.py": {"example_trigger_controller_dag": "success"},
    "example_trigger_target_dag.py": {"example_trigger_target_dag": "success"},
    "example_xcom.py": {"example_xcom": "success"},
    "example_xcomargs.py": {"example_xcom_args": "success"},
    "tutorial.py": {"tutorial": "success"},
}
ALL = os.environ.get("KOMMUNA_EXAMPLES") == "all"


def folders() -> list[Path]:
    """Where the installed examples are."""
    return [Path(module.__path__[0]) for module in (airflow.example_dags, airflow.providers.standard.example_dags)]


@pytest.fixture(scope="module")
def files(site: Site) -> Iterator[list[Path]]:
    """The examples, copied into a folder of the bundle, where relative files lie beside them."""
    bundle = site.root / "dags/support"
    before = {path.name for path in bundle.iterdir()}
    copied = []
    for folder in folders():
        shutil.copytree(folder, bundle, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__*__*", "__init__.py"))
        copied += [bundle / path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
    if not ALL:
        for path in copied:
            if path.name not in {**REFUSED, **CORE}:
                path.unlink()
    yield [path for path in copied if path.exists()]
    for path in bundle.iterdir():
        if path.name not in before:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.fixture(scope="module")
def runs(site: Site, files: list[Path]) -> DagRuns:
    made = DagRuns(site)
    wanted = {f"support__{dag_id}" for dags in CORE.values() for dag_id in dags}
    assert made.await_dags(wanted, 240) == wanted, made.import_errors()
    return made


def test_check_and_the_platform_refuse_the_same_files_with_the_same_words(
    site: Site, files: list[Path], runs: DagRuns
) -> None:
    said = site.kommuna("check", "dags/support").stdout.splitlines()
    by_check = {
        line.partition(":")[0]: line for line in said if line.partition(":")[0] in {path.name for path in files}
    }
    by_platform = {Path(name).name: words for name, words in runs.import_errors().items()}
    assert set(by_check) == set(by_platform) == set(REFUSED)
    for name, words in REFUSED.items():
        assert any(line.startswith(name) and words in line for line in said)
        assert words in by_platform[name]


def test_at_least_nine_of_ten_files_load() -> None:
    files = [path.name for folder in folders() for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(files) > 60
    assert len(files) - len(REFUSED) >= 0.9 * len(files)


@pytest.mark.parametrize(("dag_id", "state"), sorted({d: s for dags in CORE.values() for d, s in dags.items()}.items()))
def test_a_run_of_an_example_ends_as_it_does_elsewhere(runs: DagRuns, dag_id: str, state: str) -> None:
    run_id = runs.trigger(f"support__{dag_id}", logical_date="2026-01-05T00:00:00Z")
    states = runs.wait(f"support__{dag_id}", run_id, 180)
    assert states[""] == state, states
