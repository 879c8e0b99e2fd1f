"""A team's bundle with steps of its own, and a way to run them in the runtime's own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kommuna.spec.step import StepResult, StepSpec, StoreAddress
from kommuna.store import Store

STEPS = """
import os
import subprocess
import time
from pathlib import Path
from typing import Literal, NamedTuple

import polars as pl

from kommuna.errors import RulesError
from kommuna.spec.base import Spec
from kommuna.spec.step import StepContext


class Made(NamedTuple):
    table: pl.LazyFrame
    metrics: dict[str, float]


class Options(Spec):
    factor: int = 2


def make(*, rows: int = 10, mode: Literal["up", "down"] = "up") -> Made:
    ids = range(rows) if mode == "up" else range(rows, 0, -1)
    return Made(pl.LazyFrame({"id": list(ids)}), {"rows": rows})


def scale(table: pl.LazyFrame, *, options: Options = Options()) -> pl.LazyFrame:
    return table.with_columns(scaled=pl.col("id") * options.factor)


def count(tables: dict[str, pl.LazyFrame], extra: pl.LazyFrame | None = None) -> dict[str, int]:
    return {name: t.select(pl.len()).collect().item() for name, t in tables.items()}


def size(source: Path) -> dict[str, int]:
    return {"bytes": source.stat().st_size}


def leave(*, flag: str) -> dict[str, int]:
    left = [subprocess.Popen(["sleep", "600"], start_new_session=own) for own in (True, False)]
    Path(flag).write_text(" ".join(str(process.pid) for process in left))
    return {"left": len(left)}


def bad_column(table: pl.LazyFrame) -> pl.LazyFrame:
    return table.select("amuont")


def boom() -> dict[str, int]:
    raise RuntimeError("flaky thing")


def refuse() -> dict[str, int]:
    raise RulesError("no tag\\n  fix: is not one", where="rule a", fix="name one of:\\n  card\\n  loan")


def refuse_inside_polars() -> pl.LazyFrame:
    def refuses(values: pl.Series) -> pl.Series:
        raise RulesError("no tag", where="rule a", fix="name one of:\\n  card\\n  loan")

    return pl.LazyFrame({"a": [1]}).select(pl.col("a").map_batches(refuses, return_dtype=pl.Int64))


def eat(*, mib: int) -> dict[str, int]:
    block = b"x" * (mib << 20)
    time.sleep(5)
    return {"n": len(block)}


def eat_in_a_child(*, mib: int) -> dict[str, int]:
    code = f"import time; b = b'x' * ({mib} << 20); time.sleep(20)"
    subprocess.run(["python3", "-c", code], check=False)
    return {}


def memory_error() -> dict[str, int]:
    raise MemoryError


def wait(*, seconds: float, flag: str) -> dict[str, str]:
    Path(flag).write_text(str(os.getpid()))
    time.sleep(seconds)
    return {"waited": "yes"}


def who(*, context: StepContext) -> dict[str, str]:
    return {"team": context.team, "key": context.key, "dag": context.dag_id}


def fill_disk(*, mib: int) -> pl.DataFrame:
    return pl.DataFrame({"x": pl.Series([os.urandom(1 << 20) for _ in range(mib)])})


def allocator() -> dict[str, str]:
    return {"settings": os.environ["_RJEM_MALLOC_CONF"]}


def nan_metric() -> Made:
    return Made(pl.LazyFrame({"id": [1]}), {"rows": 1, "loss": float("nan")})


def odd_json(*, which: str) -> dict[str, object]:
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    values = {"nan": float("nan"), "set": {1, 2}, "broken": "a\\ud800b", "deep": deep, "key": {(1, 2): 3}}
    return {"part": [1, values[which]]}


class Rate(Spec):
    rate: float
    more: dict[str, object] = {}


def odd_model(*, which: str) -> Rate:
    return Rate(rate=float("nan")) if which == "field" else Rate(rate=1, more={"x": float("inf")})


def odd_table(*, which: str) -> pl.DataFrame:
    if which == "object":
        return pl.DataFrame({"a": [{1, 2}]})
    return pl.DataFrame({"a": ["x\\ud800"]})


def odd_message() -> dict[str, int]:
    raise RuntimeError("half a pair: \\ud800")


class Pickled:
    def save(self, path: Path) -> None:
        path.write_bytes(b"abc")

    @classmethod
    def load(cls, path: Path) -> "Pickled":
        raise ValueError("unsupported pickle protocol: 97")


def use_pickled(model: Pickled) -> dict[str, int]:
    return {}


def says() -> dict[str, str]:
    print("a line of the step's own")
    return {}
"""


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "team_steps.py").write_text(STEPS)
    return folder


@pytest.fixture
def address(tmp_path: Path) -> StoreAddress:
    return StoreAddress(url=(tmp_path / "store").as_uri())


@pytest.fixture
def store(address: StoreAddress) -> Store:
    return Store(address, "support")


@pytest.fixture
def start(bundle: Path, address: StoreAddress, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts `python -m kommuna.runtime` on a step of the bundle."""

    def start(function: str, *options: str, **fields: Any) -> subprocess.Popen[str]:
        fields = {"team": "support", "store": address.model_dump(), "bundle": str(bundle)} | fields
        spec = StepSpec.model_validate({"function": function if ":" in function else f"team_steps:{function}"} | fields)
        process = subprocess.Popen(
            [sys.executable, "-m", "kommuna.runtime", "--result", str(tmp_path / "result.json"), *options],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ},
        )  # fmt: skip
        assert process.stdin is not None
        process.stdin.write(spec.model_dump_json())
        process.stdin.close()
        process.stdin = None
        return process

    return start


@pytest.fixture
def run(start: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> Callable[..., StepResult]:
    """Runs a step to its end; the result's exit code is also the process's."""

    def run(function: str, *options: str, **fields: Any) -> StepResult:
        process = start(function, *options, **fields)
        output, _ = process.communicate(timeout=60)
        result = StepResult.model_validate(json.loads((tmp_path / "result.json").read_text()))
        assert process.returncode == result.exit_code, output
        assert result.message.splitlines()[:1] == [] or result.message.splitlines()[0] in output
        return result

    return run
