"""Outages of services in the middle of a run: real S3 and MLflow servers, disconnected and reconnected."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.rigs.llm_server import LlmServer, status

from kommuna.errors import EXIT_DONE
from kommuna.spec.step import StepResult, StepSpec, StoreAddress
from kommuna.waiting import wait_until

STEPS = """
import json
import time
from pathlib import Path

from kommuna.errors import SpecError
from kommuna.steps.llm.client import Llm
from kommuna.steps.registry.client import Registry


def make(*, flag: str = "") -> dict[str, int]:
    if flag:
        Path(flag).write_text("started")
        time.sleep(3)
    return {"n": 1}


def champion(*, registry: Registry, name: str) -> dict[str, bool]:
    return {"is_there": registry.by_alias(name, "champion") is not None}


def size(model: Path | None = None) -> dict[str, bool]:
    return {"is_there": model is not None}


def ask(*, llm: Llm) -> dict[str, bool]:
    asked = {"questions": {"q1": "Does it mention card?"}, "messages": {"m1": "my card"}}
    message = {"role": "user", "content": json.dumps(asked)}
    return {"answered": bool(llm.light().complete_json([message], {"type": "object", "properties": {}}))}


def mistaken(*, tries: str) -> dict[str, int]:
    with Path(tries).open("a") as file:
        file.write("x")
    raise SpecError("that cannot be")
"""


class Gate:
    """A proxy between the step and a server: when it is closed, it refuses connections and cuts open ones."""

    def __init__(self, port: int, target: int) -> None:
        self.port = port
        self._target = target
        self._server: socket.socket | None = None
        self._open: list[socket.socket] = []

    def open(self) -> None:
        self._server = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._serve, args=(self._server,), daemon=True).start()

    def close(self) -> None:
        assert self._server is not None
        for one in (self._server, *self._open):
            with _quiet():
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._open.clear()

    def _serve(self, server: socket.socket) -> None:
        with _quiet():
            while True:
                client, _ = server.accept()
                behind = socket.create_connection(("127.0.0.1", self._target))
                self._open += [client, behind]
                for a, b in ((client, behind), (behind, client)):
                    threading.Thread(target=self._copy, args=(a, b), daemon=True).start()

    def _copy(self, source: socket.socket, target: socket.socket) -> None:
        with _quiet():
            while block := source.recv(1 << 16):
                target.sendall(block)
            target.shutdown(socket.SHUT_WR)


class _quiet:
    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, _: object) -> bool:
        return isinstance(error, OSError)


@pytest.fixture
def gate(s3: dict[str, str], free_port: Callable[[], int]) -> Iterator[Gate]:
    made = Gate(free_port(), int(s3["endpoint_url"].rpartition(":")[2]))
    made.open()
    yield made
    made.close()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "away_steps.py").write_text(STEPS)
    return tmp_path


def start(bundle: Path, function: str, store: StoreAddress, **fields: Any) -> subprocess.Popen[str]:
    spec = StepSpec.model_validate(
        {"function": f"away_steps:{function}", "team": "support", "store": store, "bundle": str(bundle)} | fields
    )
    (bundle / f"{function}.json").write_text(spec.model_dump_json())
    result = str(bundle / f"{function}.result.json")
    return subprocess.Popen(
        [sys.executable, "-m", "kommuna.runtime", "--spec", str(bundle / f"{function}.json"), "--result", result],
        stdout=(bundle / f"{function}.log").open("w"), stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip


def ended(process: subprocess.Popen[str], bundle: Path, function: str = "make") -> tuple[StepResult, str]:
    process.wait(timeout=180)
    output = (bundle / f"{function}.log").read_text()
    return StepResult.model_validate_json((bundle / f"{function}.result.json").read_bytes()), output


def await_outage(process: subprocess.Popen[str], bundle: Path, function: str = "make") -> None:
    """Waits until the step says that it waits for a service."""

    def is_said() -> bool:
        output = (bundle / f"{function}.log").read_text()
        assert process.poll() is None, output
        return "outage.waiting" in output

    wait_until(f"{function} waits for a service", is_said, every=0.1)


def s3_address(gate: Gate) -> StoreAddress:
    client = {"endpoint_url": f"http://127.0.0.1:{gate.port}", "region_name": "us-east-1"}
    return StoreAddress(url="s3://artifacts/kommuna", options={"key": "a", "secret": "b", "client_kwargs": client})


def test_a_step_waits_for_a_store_that_is_down_at_its_start(gate: Gate, bundle: Path) -> None:
    gate.close()
    process = start(bundle, "make", s3_address(gate))
    await_outage(process, bundle)
    gate.open()
    result, output = ended(process, bundle)
    assert result.exit_code == EXIT_DONE, output
    assert "outage.waiting" in output
    assert "the artifact store does not answer" in output


def test_outputs_are_stored_later_if_the_store_goes_down_while_the_step_runs(gate: Gate, bundle: Path) -> None:
    flag = bundle / "flag"
    process = start(bundle, "make", s3_address(gate), params={"flag": str(flag)}, cache=False)
    wait_until("the step runs", flag.exists, every=0.05)
    flag.unlink()
    gate.close()
    await_outage(process, bundle)
    assert not flag.exists()  # the step is not run a second time: what it made is at hand
    gate.open()
    result, output = ended(process, bundle)
    assert result.exit_code == EXIT_DONE, output
    assert "outage.waiting" in output
    assert output.count("step.started") == 1


def test_a_step_waits_until_the_registry_is_back(bundle: Path, free_port: Callable[[], int], tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    database = f"sqlite:///{tmp_path}/mlflow.db"
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    mlflow = [sys.executable, "-m", "mlflow"]
    subprocess.run([*mlflow, "db", "upgrade", database], check=True, env=environment, capture_output=True)
    services = {"mlflow": url}
    store = StoreAddress(url=(tmp_path / "store").as_uri())
    asks = start(bundle, "champion", store, params={"name": "m"}, services=services)  # the step itself
    model = {"model": "m", "optional": True}
    reads = start(bundle, "size", store, inputs={"model": model}, services=services)  # before the step begins
    await_outage(asks, bundle, "champion")
    await_outage(reads, bundle, "size")
    server = subprocess.Popen(
        [*mlflow, "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1", "--backend-store-uri", database],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        for process, function in ((asks, "champion"), (reads, "size")):
            result, output = ended(process, bundle, function)
            assert result.exit_code == EXIT_DONE, output
            assert f"MLflow at {url} is unreachable" in output
            assert "outage.waiting" in output
    finally:
        os.killpg(server.pid, 15)
        server.wait()


def test_an_unreachable_llm_is_retried_later(bundle: Path, tmp_path: Path) -> None:
    store = StoreAddress(url=(tmp_path / "store").as_uri())
    overloaded = status(503, "overloaded", headers={"Retry-After": "900"})  # longer than the client itself waits
    server = LlmServer(faults=[overloaded, overloaded]).start()
    light = {"url": server.url, "model": "tiny"}
    try:
        process = start(bundle, "ask", store, services={"llm": {"light": light}})
        result, output = ended(process, bundle, "ask")
    finally:
        server.stop()
    assert result.exit_code == EXIT_DONE, output
    assert output.count("outage.waiting") == 2
    assert len(server.received) == 3
    assert "Traceback" not in output


def test_a_mistake_fails_at_once(bundle: Path, tmp_path: Path) -> None:
    store = StoreAddress(url=(tmp_path / "store").as_uri())
    process = start(bundle, "mistaken", store, params={"tries": str(tmp_path / "tries")})
    result, output = ended(process, bundle, "mistaken")
    assert result.exit_code == 2
    assert (tmp_path / "tries").read_text() == "x"
    assert "outage.waiting" not in output
