"""One client per server, and one way to wait: no other module has a server's paths, or a loop with a deadline."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "src" / "kommuna"
RIGS = [path for folder in ("e2e", "rigs") for path in (ROOT / "tests" / folder).rglob("*.py")]
RUNNING = [*RIGS, *(ROOT / "tests" / "integration").rglob("*.py")]


def files_with(pattern: str, files: Iterable[Path]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in files if re.search(pattern, path.read_text())]


def sources(*, outside: str) -> list[Path]:
    return [path for path in SOURCE.rglob("*.py") if not path.is_relative_to(SOURCE / outside)]


@pytest.mark.parametrize("pattern", ["/auth/token", r"api/[23]\.0/mlflow", "X-MLFLOW-WORKSPACE"])
def test_only_its_client_has_a_servers_paths(pattern: str) -> None:
    servers = {"src/kommuna/airflow/server/people/routes.py", "src/kommuna/cluster/registry_access.py"}
    assert set(files_with(pattern, sources(outside="clients"))) <= servers


@pytest.mark.parametrize("pattern", [r"/auth/token", r"xcomEntries/return_value", r"[\"']offset[\"']:"])
def test_no_test_has_an_airflow_client_of_its_own(pattern: str) -> None:
    signs_in_wrongly = {"tests/integration/platform/test_rest_walk.py"}
    assert set(files_with(pattern, RUNNING)) <= signs_in_wrongly


def test_only_one_module_has_a_loop_with_a_deadline() -> None:
    waits = r"deadline = time\.monotonic\(\) \+(.*\n){1,9}.*time\.sleep\("
    assert files_with(waits, [*sources(outside="waiting.py"), *RUNNING]) == []


def test_no_test_has_a_loop_that_waits() -> None:
    waits = r"\n( +)while not (?!\(FOLDER).*:\n(\1 .*\n){0,4}?\1 +time\.sleep\("
    tests = [path for folder in ("unit", "chart") for path in (ROOT / "tests" / folder).rglob("*.py")]
    assert files_with(waits, [*tests, *RUNNING]) == []
