"""Fixtures for every test."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent

# Airflow reads its home when it is first imported; no test touches the user's.
_HOME = tempfile.TemporaryDirectory(prefix="kommuna-airflow-", ignore_cleanup_errors=True)  # gone at the tests' end
os.environ["AIRFLOW_HOME"] = _HOME.name
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
os.environ.pop("KOMMUNA_PLATFORM", None)

# No test asserts a time: an example that imports a library takes 90 ms, and four times that on a busy machine.
settings.register_profile("kommuna", deadline=None)
settings.load_profile("kommuna")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", action="store_true", help="record results anew, where versions were raised")


@pytest.fixture(autouse=True)
def _logs_as_at_the_start() -> Iterator[None]:
    """Restores logging after a test, since a command that runs in this process sends logs to stderr."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def root() -> Path:
    """The root of the checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of public data next to the checkout."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no public data at {folder}: put the data sets there to run this test")
    return folder


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Returns a function that finds a free port on loopback."""

    def free() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return free


@pytest.fixture
def record(request: pytest.FixtureRequest) -> bool:
    """Whether to record results instead of only comparing them."""
    return bool(request.config.getoption("--record"))
