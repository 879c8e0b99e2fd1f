"""Unchanged third-party DAG files in a team's bundle: the examples of Airflow and its standard provider.

`check` and the platform say the same of each file, and runs of a core end as they do elsewhere. `make examples` takes
every file (KOMMUNA_EXAMPLES=all), and a run of each DAG ends in success or as a table here says.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import airflow.example_dags
import airflow.providers.standard.example_dags
import pytest
from tests.rigs.dag_runs import DagRuns

from kommuna.errors import PlatformFault
from kommuna.waiting import wait_until

if TYPE_CHECKING:
    from tests.integration.platform.conftest import Site

# What the platform refuses in a team's file, and why: the words of both `check` and the import error.
REFUSED = {
    "example_asset_with_watchers.py": "has a watcher",
    "example_custom_weight.py": "has the weight_rule",
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
# What `check` says of a file that the platform takes: a run of it fails, unless it is given what is missing.
CHECK_ONLY = {
    "example_passing_params_via_test_command.py": "the DAG has no param 'foo'",
}
# Runs that end otherwise than in success: how, and why. "running" is a run that waits without end.
OTHER_ENDS = {
    "example_dag_decorator": ("failed", "needs network: asks a public server for its address"),
    "example_external_task_marker_child": ("failed", "waits for a task group that its parent does not have"),
    "example_hitl_operator": ("running", "waits for a person's answer"),
    "example_passing_params_via_test_command": ("failed", "wants a param that `airflow tasks test` gives"),
    "example_retry_policy": ("failed", "needs network: a host of a made-up name"),
    "example_sensors": ("running", "one of its sensors is deferred for an hour"),
    "example_task_state_store_async": ("failed", "calls TaskStateStoreAccessor.aget, which this Airflow has not got"),
    "read_asset_event_from_classic": ("failed", "reads the last event of an asset that no example writes"),
    "tutorial_objectstorage": ("failed", "needs network and a connection to S3"),
}
# It gives the address of an asset of another example to one of its own, and Airflow keeps the first of the two.
APART = "example_outlet_event_extra.py"
STARTED_BY_ANOTHER = ("child_dag",)  # of example_external_task, which takes the run of its own date
CONF = {"example_params_ui_tutorial": {"required_field": "a text of ten or more"}}
RUN_SECONDS, WAIT_SECONDS = 900, 60
LOGICAL_DATE = "2026-01-05T00:00:00Z"
ALL = os.environ.get("KOMMUNA_EXAMPLES") == "all"


def folders() -> list[Path]:
    """Returns the folders of the installed examples."""
    return [Path(module.__path__[0]) for module in (airflow.example_dags, airflow.providers.standard.example_dags)]


@pytest.fixture(scope="module")
def files(site: Site) -> Iterator[list[Path]]:
    """The examples, copied into a folder of the bundle, next to the files that they refer to."""
    bundle = site.root / "dags/support"
    before = {path.name for path in bundle.iterdir()}
    copied = []
    for folder in folders():
        shutil.copytree(folder, bundle, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__*__*", "__init__.py"))
        copied += [bundle / path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
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


def test_check_and_the_platform_refuse_the_same_files_in_the_same_words(
    site: Site, files: list[Path], runs: DagRuns
) -> None:
    lines = site.kommuna("check", "dags/support").stdout.splitlines()
    by_check = {
        line.partition(":")[0]: line for line in lines if line.partition(":")[0] in {path.name for path in files}
    }
    by_platform = {Path(name).name: words for name, words in runs.import_errors().items()}
    assert set(by_check) == set(by_platform) == set(REFUSED)
    for name, words in REFUSED.items():
        assert any(line.startswith(name) and words in line for line in lines)
        assert words in by_platform[name]


def test_at_least_nine_of_ten_files_load() -> None:
    files = [path.name for folder in folders() for path in folder.glob("*.py") if path.name != "__init__.py"]
    assert len(files) > 60
    assert len(files) - len(REFUSED) >= 0.9 * len(files)


@pytest.mark.parametrize(("dag_id", "state"), sorted({d: s for dags in CORE.values() for d, s in dags.items()}.items()))
def test_a_run_of_an_example_ends_as_in_plain_airflow(runs: DagRuns, dag_id: str, state: str) -> None:
    run_id = runs.trigger(f"support__{dag_id}", logical_date=LOGICAL_DATE)
    states = runs.wait(f"support__{dag_id}", run_id, 180)
    assert states[""] == state, states


def batches(names: list[str], size: int = 8) -> list[list[str]]:
    return [names[start : start + size] for start in range(0, len(names), size)]


def load(site: Site, runs: DagRuns, names: list[str]) -> list[str]:
    """Puts examples into the bundle, and returns their DAGs when the platform knows all of them."""
    for folder in folders():
        for name in names:
            if (folder / name).exists():
                shutil.copy(folder / name, runs.bundle)
    dags: dict[str, str] = {}

    def all_there() -> bool:
        dags.clear()
        dags.update({dag["dag_id"]: Path(dag["relative_fileloc"]).name for dag in runs.pages("/dags", "dags")})
        return set(names) <= set(dags.values())

    with contextlib.suppress(PlatformFault):
        wait_until("the DAGs are there", all_there, seconds=240, every=1)
    missing = set(names) - set(dags.values())
    assert not missing, {name: runs.import_errors().get(name, "no DAG") for name in missing}
    return sorted(dag_id for dag_id, name in dags.items() if name in names)


def await_no_asset(runs: DagRuns, uri: str) -> None:
    """Waits until no known DAG has the asset; Airflow checks once a minute."""

    def gone() -> bool:
        return not any(asset["uri"].startswith(uri) for asset in runs.pages("/assets", "assets"))

    wait_until(f"{uri} is gone", gone, seconds=240, every=2)


@pytest.mark.skipif(not ALL, reason="`make examples` runs every DAG")
@pytest.mark.timeout(3 * 3600)
def test_a_run_of_every_example_succeeds_or_ends_as_the_table_says(
    site: Site, runs: DagRuns, files: list[Path]
) -> None:
    core = {f"support__{dag_id}" for dags in CORE.values() for dag_id in dags}
    everything = {path.name for folder in folders() for path in folder.glob("*.py")}
    others = sorted(everything - {*REFUSED, *CORE, "__init__.py"})
    others.remove(APART)
    ends: dict[str, dict[str, str]] = {}
    for names in ([APART], list(CORE), *batches(others)):
        dags = {dag_id.partition("__")[2] for dag_id in load(site, runs, names) if dag_id not in core}
        lines = site.kommuna("check", "dags/support").stdout.splitlines()
        found = {name: line for name in names for line in lines if line.startswith(f"{name}:")}
        assert set(found) == set(CHECK_ONLY) & set(names), found
        assert all(CHECK_ONLY[name] in line for name, line in found.items())
        waiting = {dag_id for dag_id in dags if OTHER_ENDS.get(dag_id, ("",))[0] == "running"}
        for some in batches(sorted(dags - waiting - {*STARTED_BY_ANOTHER})):
            ends |= runs.ends(some, RUN_SECONDS, LOGICAL_DATE, CONF)
        ends |= runs.ends(sorted(waiting), WAIT_SECONDS, LOGICAL_DATE)
        for name in {*names} - {*CORE}:
            (runs.bundle / name).unlink()
        if names == [APART]:
            await_no_asset(runs, "s3://output/1.txt")
    expected = {dag_id: OTHER_ENDS.get(dag_id, ("success",))[0] for dag_id in ends}
    assert {dag_id: states[""] for dag_id, states in ends.items()} == expected, ends
