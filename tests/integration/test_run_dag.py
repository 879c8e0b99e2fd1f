"""`kommuna run-dag`, and `dag.test()` in a DAG file: without a platform, and with a running one."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    pass

KOMMUNA = str(Path(sys.executable).with_name("kommuna"))
PLAIN = """
from airflow.sdk import DAG, Param, task
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.trigger_dagrun import TriggerDagRunOperator

with DAG("plain", params={"n": Param(2, type="integer")}) as dag:
    @task
    def numbers(params):
        return list(range(params["n"]))

    @task
    def double(x):
        return 2 * x

    @task
    def total(xs):
        print("TOTAL", sum(xs))
        return sum(xs)

    said = BashOperator(task_id="say", bash_command="echo ON {{ ds }} {{ ti.xcom_pull('total') }}")
    total(double.expand(x=numbers())) >> said >> TriggerDagRunOperator(task_id="next", trigger_dag_id="helper")

with DAG("helper"):
    BashOperator(task_id="t", bash_command="true")
"""
STOPS = """
from airflow.sdk import Param, task
from kommuna.airflow import StepOperator, TeamDag

with TeamDag("stops", params={"least": Param(3, type="integer")}):
    @task
    def before(params):
        breakpoint()
        return params["least"]

    least = before()
    made = StepOperator(task_id="made", function="team_steps:made", parameters={"least": least})
    StepOperator.partial(task_id="used", function="team_steps:used", inputs={"table": made["table"]}).expand(
        parameters=[{"above": 1}, {"above": 2}]
    )
"""
STEPS = """
from typing import NamedTuple
import polars as pl

class Made(NamedTuple):
    table: pl.LazyFrame

def made(*, least: int = 1) -> Made:
    breakpoint()
    return Made(pl.LazyFrame({"a": range(least)}))

def used(table: pl.LazyFrame, *, above: int) -> Made:
    return Made(table.filter(pl.col("a") > above))
"""
FAILS = """
from airflow.sdk import DAG, task
import team_names

with DAG("fails") as dag:
    @task(retries=3)
    def bad():
        print("TRIED")
        raise ValueError(team_names.WORDS)

    @task
    def after():
        print("NEVER")

    bad() >> after()

if __name__ == "__main__":
    print("STATE", dag.test().state)
"""
BROKEN = "from airflow.sdk import DAG\nfrom team_names import WORD\n"
REFUSED = """
from airflow.sdk import DAG
from airflow.providers.standard.operators.empty import EmptyOperator
with DAG("refused"):
    EmptyOperator(task_id="t", pool="fraud__default")
"""


class Checkout:
    """A folder with a platform's description and one team's bundle, in which no platform was ever started."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bundle = root / "dags"
        self.bundle.mkdir()
        (root / "kommuna.yaml").write_text("teams: {support: {bundle: dags}, fraud: {bundle: other}}\n")
        for name, source in (
            ("plain.py", PLAIN), ("stops.py", STOPS), ("fails.py", FAILS), ("broken.py", BROKEN), ("refused.py", REFUSED),
            ("team_steps.py", STEPS), ("team_names.py", "WORDS = 'of the team'\n"),
        ):  # fmt: skip
            (self.bundle / name).write_text(source)

    def run(self, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Runs a command, without settings."""
        return subprocess.run(
            command, cwd=self.root, env=clean() | more, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=280, check=False,
        )  # fmt: skip

    def run_dag(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Runs `kommuna run-dag`."""
        return self.run(KOMMUNA, "run-dag", *arguments)

    def on_terminal(self, *arguments: str, typed: list[str]) -> tuple[int, str]:
        """Runs `kommuna run-dag` on a terminal, answers each prompt of the debugger; returns exit code and output."""
        ours, terminal = pty.openpty()
        process = subprocess.Popen(
            [KOMMUNA, "run-dag", *arguments],
            cwd=self.root, env=clean(), stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
        )  # fmt: skip
        os.close(terminal)
        screen, answered = "", 0
        with contextlib.suppress(OSError):  # the terminal is closed at the other end
            while read := os.read(ours, 1 << 16):
                screen += read.decode(errors="replace")
                if screen.count("(Pdb) ") > answered and screen.endswith("(Pdb) "):
                    os.write(ours, f"{typed[answered]}\n".encode())
                    answered += 1
        os.close(ours)
        return process.wait(), screen


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "KOMMUNA"))}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("checkout"))


def states(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    return {task["task"]: task["state"] for task in json.loads(done.stdout)["tasks"]}


def test_an_ordinary_dag_runs_with_params_a_date_and_mapped_tasks_and_the_bundles_other_dags(
    checkout: Checkout,
) -> None:
    done = checkout.run_dag("dags/plain.py", "--dag", "plain", "-p", "n=3", "--date", "2026-09-01", "--json")
    assert done.returncode == 0, done.stderr
    assert states(done) == dict.fromkeys(["numbers", "double[0]", "double[1]", "double[2]", "total", "say", "next"],
                                         "success")  # fmt: skip
    assert "TOTAL 6" in done.stderr
    assert "ON 2026-09-01 6" in done.stderr
    assert sorted(path.name for path in (checkout.root / ".kommuna").iterdir()) == ["run-dag", "secrets"]


def test_one_task_runs_with_its_upstream_tasks_or_alone(checkout: Checkout) -> None:
    done = checkout.run_dag("dags/plain.py", "--dag", "support__plain", "--task", "total", "--json")
    assert done.returncode == 0, done.stderr
    assert set(states(done)) == {"numbers", "double[0]", "double[1]", "total"}
    alone = checkout.run_dag("dags/plain.py", "--dag", "plain", "--task", "numbers", "--alone", "--conf", '{"n": 5}')
    assert alone.returncode == 0, alone.stderr
    assert [line.split()[0] for line in alone.stdout.splitlines()] == ["task", "numbers", "support__plain:"]
    unknown = checkout.run_dag("dags/plain.py", "--dag", "plain", "--task", "totl")
    assert (unknown.returncode, "did you mean 'total'" in unknown.stderr) == (2, True)


def test_a_breakpoint_stops_in_a_task_and_in_a_step(checkout: Checkout) -> None:
    typed = ["p 'TASK', sorted(params)", "c", "p 'STEP', least", "c"]
    code, screen = checkout.on_terminal("dags/stops.py", "-p", "least=4", typed=typed)
    assert code == 0, screen
    assert "('TASK', ['least'])" in screen
    assert "('STEP', 4)" in screen
    assert "support__stops: success" in screen


def test_a_failing_task_is_reported_with_its_traceback_and_not_retried(checkout: Checkout) -> None:
    done = checkout.run_dag("dags/fails.py")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "support__fails: failed of bad"
    assert 'fails.py", line 9, in bad' in done.stderr
    assert "ValueError: of the team" in done.stderr
    assert (done.stderr.count("TRIED"), "NEVER" in done.stderr) == (1, False)


def test_a_file_with_several_dags_requires_a_choice(checkout: Checkout) -> None:
    done = checkout.run_dag("dags/plain.py")
    assert done.returncode == 2
    assert "the file defines 2 DAGs: support__helper, support__plain" in done.stderr
    assert "--dag" in done.stderr
    unknown = checkout.run_dag("dags/plain.py", "--dag", "plane")
    assert (unknown.returncode, "did you mean 'plain'" in unknown.stderr) == (2, True)


def test_findings_of_check_are_reported_in_the_same_words(checkout: Checkout) -> None:
    found = json.loads(checkout.run(KOMMUNA, "check", "dags", "--json").stdout)["findings"]
    by_file = {finding["file"]: finding for finding in found}
    assert set(by_file) == {"broken.py", "refused.py"}
    for name, finding in by_file.items():
        done = checkout.run_dag(f"dags/{name}")
        assert done.returncode == 2
        assert finding["what"].partition(": ")[2] in done.stderr
        assert finding["fix"] in done.stderr
        assert name == "refused.py" or f"dags/{name}:{finding['line']}" in done.stderr


def test_an_invalid_parameter_is_refused(checkout: Checkout) -> None:
    done = checkout.run_dag("dags/plain.py", "--dag", "plain", "-p", "n=many")
    assert done.returncode == 2, done.stderr
    assert "'many' is not of type 'integer'" in done.stderr
    misspelt = checkout.run_dag("dags/plain.py", "--dag", "plain", "-p", "m=1")
    assert (misspelt.returncode, "has no parameter 'm'" in misspelt.stderr) == (2, True)


def test_a_file_outside_of_every_bundle_is_refused(checkout: Checkout) -> None:
    (checkout.root / "elsewhere.py").write_text(PLAIN)
    done = checkout.run_dag("elsewhere.py")
    assert (done.returncode, "is not in any team's bundle" in done.stderr) == (2, True)


def test_a_dag_file_runs_as_a_program_without_settings(checkout: Checkout) -> None:
    done = checkout.run(sys.executable, "dags/fails.py")
    assert done.returncode == 0, done.stderr
    assert "STATE failed" in done.stdout
    assert done.stdout.count("TRIED") == 1


def test_a_dag_imported_by_another_program_runs_without_settings(checkout: Checkout) -> None:
    script = "import sys; sys.path.append('dags'); import fails; print('STATE', fails.dag.test().state)"
    done = checkout.run(sys.executable, "-c", script)
    assert "STATE failed" in done.stdout, done.stderr


def test_a_process_keeps_its_own_airflow_settings(checkout: Checkout, tmp_path: Path) -> None:
    (checkout.bundle / "shows.py").write_text("from airflow import settings\nprint('DB', settings.SQL_ALCHEMY_CONN)\n")
    own = checkout.run(sys.executable, "dags/shows.py", AIRFLOW_HOME=str(tmp_path))
    assert f"DB sqlite:///{tmp_path}/airflow.db" in own.stdout, own.stderr
    given = checkout.run(sys.executable, "dags/shows.py")
    assert "DB sqlite:////" in given.stdout
    assert "kommuna-run-dag-" in given.stdout
    (checkout.bundle / "shows.py").unlink()


PAGE = (Path(__file__).resolve().parents[2] / "docs/run-dag.md").read_text(encoding="utf-8")
(EXAMPLE,) = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
(COMMANDS,) = re.findall(r"^```sh\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("command", COMMANDS.strip().splitlines())
def test_each_command_of_the_page_runs_the_pages_dag(checkout: Checkout, command: str) -> None:
    path = checkout.root / "dags/support/orders.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(EXAMPLE)
    program, *arguments = shlex.split(command)
    done = checkout.run({"kommuna": KOMMUNA, "python": sys.executable}[program], *arguments)
    assert done.returncode == 0, done.stderr
    totals = {"days=3": "total 300", "count": "", "--alone": ""}
    wanted = next((total for word, total in totals.items() if word in arguments), "total 100")
    assert wanted in done.stdout + done.stderr
    assert bool(wanted) == ("total 1" in done.stdout + done.stderr or "total 3" in done.stdout + done.stderr)
