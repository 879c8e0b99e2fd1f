"""One step in its own process: cache, limits, signals, exit codes, and that nothing half-written stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import psutil
import pytest

from kommuna.spec.step import StepResult, StoreAddress
from kommuna.store import Store
from kommuna.waiting import wait_until

Run = Callable[..., StepResult]
Start = Callable[..., "subprocess.Popen[str]"]


def files(store: Store) -> list[Path]:
    return sorted(path for path in Path(store.address.url.removeprefix("file://")).rglob("*") if path.is_file())


def from_step(result: StepResult, output: str = "result") -> dict[str, Any]:
    return {"manifest": result.key, "output": output}


def table(store: Store, result: StepResult, output: str, folder: Path) -> pl.DataFrame:
    manifest = store.manifest(result.key)
    assert manifest is not None
    return pl.read_parquet(store.fetch(manifest.outputs[output], folder))


def wait_for(path: Path) -> int:
    return int(wait_until(f"{path} appears", lambda: path.exists() and path.read_text(), seconds=60, every=0.05))


@pytest.mark.slow
def test_a_step_leaves_its_table_its_plan_and_a_manifest(run: Run, store: Store, tmp_path: Path) -> None:
    made = run("make", params={"rows": 4}, dag_id="support__d", task_id="t")
    scaled = run("scale", inputs={"table": from_step(made, "table")}, params={"options": {"factor": 3}})
    assert table(store, scaled, "result", tmp_path)["scaled"].to_list() == [0, 3, 6, 9]
    manifest = store.manifest(scaled.key)
    assert manifest is not None
    assert "Parquet SCAN" in store.read(manifest.plans["result"]).decode()
    assert (manifest.rows, manifest.outputs["result"].rows) == (4, 4)
    assert manifest.peak_memory_bytes > 20 << 20
    assert 0 < manifest.processor_seconds < 60
    assert scaled.processor_seconds == manifest.processor_seconds
    assert [(line.input, line.manifest, line.output) for line in manifest.lineage] == [("table", made.key, "table")]
    first = store.manifest(made.key)
    assert first is not None
    assert (first.metrics, first.dag_id, first.task_id) == ({"rows": 4.0}, "support__d", "t")


@pytest.mark.slow
def test_the_second_run_is_a_hit_and_a_changed_module_is_not(run: Run, bundle: Path, store: Store) -> None:
    assert not run("make").cached
    before = files(store)
    assert run("make").cached
    assert files(store) == before
    source = bundle / "team_steps.py"
    source.write_text(source.read_text().replace("range(rows, 0, -1)", "range(rows, 1, -1)"))
    assert not run("make").cached


@pytest.mark.slow
def test_other_parameters_or_inputs_are_another_key(run: Run) -> None:
    one, two = run("make", params={"rows": 3}), run("make", params={"rows": 4})
    assert one.key != two.key
    three = run("scale", inputs={"table": from_step(one, "table")})
    four = run("scale", inputs={"table": from_step(two, "table")})
    assert len({three.key, four.key}) == 2


@pytest.mark.slow
def test_a_number_written_in_another_way_is_a_hit(run: Run) -> None:
    one, two = run("make", params={"rows": 3}), run("make", params={"rows": "3"})
    assert (one.key, two.cached) == (two.key, True)
    assert run("make", params={"rows": 3, "mode": "up"}).key == one.key  # a default that is written


@pytest.mark.slow
def test_the_same_content_by_another_way_is_a_hit_downstream(run: Run) -> None:
    one, two = run("make", params={"rows": 3}), run("make", params={"rows": 3}, cache=False)
    assert one.key != two.key
    assert not run("scale", inputs={"table": from_step(one, "table")}).cached
    assert run("scale", inputs={"table": from_step(two, "table")}).cached


@pytest.mark.slow
def test_tables_by_name_and_an_absent_optional_input(run: Run, store: Store) -> None:
    one, two = run("make", params={"rows": 3}), run("make", params={"rows": 4})
    tables = {"a": from_step(one, "table"), "b": from_step(two, "table")}
    result = run("count", inputs={"tables": tables, "extra": None})
    manifest = store.manifest(result.key)
    assert manifest is not None
    assert store.read(manifest.outputs["result"]).decode().split() == ["{", '"a":', "3,", '"b":', "4", "}"]
    assert [line.input for line in manifest.lineage] == ["tables.a", "tables.b", "extra"]


@pytest.mark.slow
def test_a_file_counts_by_its_content(run: Run, bundle: Path) -> None:
    (bundle / "data.csv").write_text("a\n1\n")
    first = run("size", inputs={"source": {"url": "data.csv"}})
    assert run("size", inputs={"source": {"url": "data.csv"}}).cached
    (bundle / "data.csv").write_text("a\n22\n")
    assert run("size", inputs={"source": {"url": "data.csv"}}).key != first.key


def test_the_context_tells_team_and_key(run: Run, store: Store) -> None:
    result = run("who", dag_id="support__d")
    manifest = store.manifest(result.key)
    assert manifest is not None
    assert manifest.question is not None
    assert f'"key": "{manifest.question.digest}"' in store.read(manifest.outputs["result"]).decode()


@pytest.mark.parametrize(
    ("function", "fields", "code", "message"),
    [
        ("make", {"params": {"rowz": 1}}, 2, "unknown parameter 'rowz' of step team_steps:make (did you mean 'rows'?)"),
        ("make", {"params": {"rows": "many"}}, 2, "parameter 'rows' of step team_steps:make: expected a whole number, found 'many'"),
        ("make", {"params": {"mode": "sideways"}}, 2, "parameter 'mode' of step team_steps:make: expected one of 'up', 'down', found 'sideways'"),
        ("scale", {}, 2, "step team_steps:scale needs the input 'table'"),
        ("scale", {"inputs": {"tabel": None}}, 2, "unknown input 'tabel' of step team_steps:scale (did you mean 'table'?)"),
        ("mkae", {}, 2, "module 'team_steps' has no step 'mkae' (did you mean 'make'?)"),
        ("kommuna.steps.etl.raed:f", {}, 2, "no module 'kommuna.steps.etl.raed'"),
        ("size", {"inputs": {"source": {"url": "absent.csv"}}}, 2, "input 'source': absent.csv does not exist"),
        ("size", {"inputs": {"source": {"url": "a" * 300}}}, 2, "input 'source': aaa"),
        ("size", {"inputs": {"source": {"url": "store://../fraud/x"}}}, 2, "leaves the team's part of the store"),
        ("scale", {"inputs": {"table": {"url": "team_steps.py"}}}, 2, "input 'table' wants a table"),
        ("scale", {"inputs": {"table": {"manifest": "f" * 64}}}, 1, "the manifest ffffffffffff or one of its artifacts is gone"),
        ("nan_metric", {}, 2, "a metric of step team_steps:nan_metric is not a number: metrics.loss is nan"),
        ("odd_json", {"params": {"which": "nan"}}, 2, "output 'result' cannot be stored as JSON: result.part[1] is nan"),
        ("odd_json", {"params": {"which": "set"}}, 2, "output 'result' cannot be stored as JSON: result.part[1] is a set: {1, 2}"),
        ("odd_json", {"params": {"which": "broken"}}, 2, "result.part[1] is the text 'a\\ud800b', which is not Unicode"),
        ("odd_json", {"params": {"which": "deep"}}, 2, "output 'result' cannot be stored as JSON: result is nested too deeply"),
        ("odd_json", {"params": {"which": "key"}}, 2, "result.part[1] has the key (1, 2), a tuple"),
        ("odd_model", {"params": {"which": "field"}}, 2, "output 'result' cannot be stored as JSON: result.rate is nan"),
        ("odd_model", {"params": {"which": "more"}}, 2, "output 'result' cannot be stored as JSON: result.more.x is inf"),
        ("odd_table", {"params": {"which": "object"}}, 2, "a column holds Python objects, which no Parquet file can"),
        ("odd_table", {"params": {"which": "text"}}, 2, "a text is not Unicode: 'x\\ud800'"),
        ("odd_message", {}, 1, "RuntimeError: half a pair: ?"),
        ("use_pickled", {"inputs": {"model": {"url": "team_steps.py"}}}, 2, "input 'model': team_steps.py is not a Pickled that a step made, and is not opened"),
        ("kommuna.cli.platform:down", {}, 2, "'kommuna.cli.platform:down' is the platform's own code, not a step"),
        ("kommuna.cli.main:main", {}, 2, "'kommuna.cli.main:main' is the platform's own code, not a step"),
        ("kommuna.steps.frames:structlog", {}, 2, "module 'kommuna.steps.frames' has no step 'structlog'"),
        ("boom", {}, 1, "RuntimeError: flaky thing"),
        ("memory_error", {}, 3, "the step ran out of memory"),
        ("eat", {"params": {"mib": 400}, "resources": {"memory": "200Mi"}}, 3, "out of memory: the step used 0."),
        ("eat_in_a_child", {"params": {"mib": 400}, "resources": {"memory": "300Mi"}}, 3, "out of memory: the step used 0."),
        ("wait", {"params": {"seconds": 30, "flag": "/tmp/kommuna-flag"}, "resources": {"seconds": 1}}, 3, "out of time: the step ran for 1 s"),
    ],
)  # fmt: skip
def test_an_error_is_reported_and_leaves_nothing(
    run: Run, store: Store, function: str, fields: dict[str, Any], code: int, message: str
) -> None:
    result = run(function, **fields)
    assert result.message.splitlines()[0].startswith(message) or message in result.message.splitlines()[0]
    assert result.exit_code == code
    assert "where: support · " in result.message
    assert files(store) == []


def test_a_steps_error_comes_back_with_its_class_and_all_of_its_fix(run: Run) -> None:
    failure = run("refuse").failure
    assert failure is not None
    assert (failure.kind, failure.what) == ("RulesError", "no tag\n  fix: is not one")
    assert failure.fix == "name one of:\n  card\n  loan"
    assert failure.where.startswith("support · ")
    assert failure.where.endswith("team_steps:refuse; rule a")


def test_an_error_that_is_raised_inside_polars_keeps_its_fields(run: Run) -> None:
    failure = run("refuse_inside_polars").failure
    assert failure is not None
    assert (failure.kind, failure.what, failure.fix) == ("RulesError", "no tag", "name one of:\n  card\n  loan")


@pytest.mark.slow
def test_a_missing_column_is_the_teams_mistake_and_names_those_there_are(run: Run) -> None:
    made = run("make")
    result = run("bad_column", inputs={"table": from_step(made, "table")})
    assert result.exit_code == 2
    assert "no column 'amuont'" in result.message
    assert "id" in result.message.split("fix:")[1]


@pytest.mark.slow
def test_an_output_that_the_upstream_does_not_have_names_the_nearest(run: Run) -> None:
    made = run("make")
    result = run("scale", inputs={"table": from_step(made, "tabel")})
    assert result.exit_code == 2
    assert "has no output 'tabel' (did you mean 'table'?)" in result.message


def test_sigterm_is_passed_on_and_nothing_stays(start: Start, store: Store, tmp_path: Path) -> None:
    process = start("wait", params={"seconds": 60, "flag": str(tmp_path / "flag")})
    child = wait_for(tmp_path / "flag")
    process.terminate()
    assert process.wait(timeout=20) == 1
    assert not psutil.pid_exists(child)
    assert files(store) == []


@pytest.mark.slow
def test_a_step_that_runs_here_is_in_the_runtimes_process_without_limits(
    start: Start, run: Run, tmp_path: Path, store: Store
) -> None:
    flag = tmp_path / "flag"
    process = start("wait", "--here", params={"seconds": 1.2, "flag": str(flag)}, resources={"seconds": 1})
    assert (process.wait(timeout=60), int(flag.read_text())) == (0, process.pid)
    assert run("make").key == run("make", "--here").key
    failed = run("bad_column", "--here", inputs={"table": from_step(run("make"), "table")})
    assert (failed.exit_code, "no column 'amuont'" in failed.message) == (2, True)


@pytest.mark.slow
def test_a_killed_step_process_is_worth_a_retry_and_the_retry_is_whole(
    start: Start, run: Run, store: Store, tmp_path: Path
) -> None:
    fields: dict[str, Any] = {"params": {"seconds": 1, "flag": str(tmp_path / "flag")}}
    process = start("wait", **fields)
    os.kill(wait_for(tmp_path / "flag"), signal.SIGKILL)
    assert process.wait(timeout=20) == 1
    assert files(store) == []
    assert run("wait", **fields).exit_code == 0
    assert run("wait", **fields).cached
    kept = [file.relative_to(store.root).parts[0] for file in files(store)]
    assert kept == ["analyses", "artifacts", "artifacts", "manifests", "results"]  # its output, and its code


def test_what_a_step_leaves_behind_ends_with_it(run: Run, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    assert run("leave", params={"flag": str(flag)}).exit_code == 0
    assert [pid for pid in flag.read_text().split() if psutil.pid_exists(int(pid))] == []


@pytest.mark.slow
def test_a_killed_runtime_takes_its_step_with_it_and_the_next_run_sweeps_up(
    start: Start, run: Run, store: Store, tmp_path: Path
) -> None:
    fields: dict[str, Any] = {"params": {"seconds": 1, "flag": str(tmp_path / "flag")}}
    process = start("wait", **fields)
    child = wait_for(tmp_path / "flag")
    process.kill()
    process.wait()
    ended = lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE  # noqa: E731
    wait_until("the step ends with its runtime", ended, seconds=10, every=0.05)
    assert run("wait", **fields).exit_code == 0
    kept = [file.relative_to(store.root).parts[0] for file in files(store)]
    assert kept == ["analyses", "artifacts", "artifacts", "manifests", "results"]  # its output, and its code


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_store_is_reported_and_nothing_half_written_stays(run: Run, small_disk: Path) -> None:
    address = StoreAddress(url=small_disk.as_uri())
    result = run("fill_disk", params={"mib": 8}, store=address.model_dump())
    assert result.exit_code == 1
    assert result.message.startswith("the artifact store is full")
    assert files(Store(address, "support")) == []


def test_the_steps_own_lines_are_streamed(start: Start) -> None:
    output, _ = start("says").communicate(timeout=60)
    assert "a line of the step's own" in output
    assert "step.done" in output


def test_the_runtime_loads_no_ml_library_for_a_hit() -> None:
    code = (
        "import sys, kommuna.runtime.supervise, kommuna.runtime.__main__;"
        "print([m for m in ('polars','sklearn','torch','mlflow','snorkel','kubernetes','airflow','pandas') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
