"""A team's bundle and store, and a process that runs steps as the runtime does, about 24 per second."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kommuna.spec.step import StepResult, StepSpec, StoreAddress
from kommuna.store import Manifest, Store

_SERVER = """
import sys
from kommuna.runtime.__main__ import _configure_logs
from kommuna.runtime.supervise import run_step
from kommuna.spec.step import StepSpec
answers = sys.stdout
sys.stdout = sys.stderr
_configure_logs()
for line in sys.stdin:
    print(run_step(StepSpec.model_validate_json(line)).model_dump_json(), file=answers, flush=True)
"""


@dataclass(frozen=True)
class Ran:
    """The result and the outputs of a step."""

    result: StepResult
    content: Any

    @property
    def hit(self) -> bool:
        return self.result.cached


@dataclass
class CacheRig:
    """Runs steps of a bundle."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    _server: subprocess.Popen[str] | None = None

    def __post_init__(self) -> None:
        self.bundle = self.folder / "bundle"
        self.address = StoreAddress(url=(self.folder / "store").as_uri())
        self.store = Store(self.address, "support")
        self.clear()

    def clear(self) -> None:
        """Empties the bundle and the store."""
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.bundle.mkdir()

    def write(self, files: Mapping[str, str | bytes | None]) -> None:
        """Writes files of the bundle by their relative paths; None removes one, or a whole folder."""
        for name, content in files.items():
            path = self.bundle / name
            if content is None:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            raw = content.encode() if isinstance(content, str) else content
            partial = path.with_name(f".{path.name}.new")
            partial.write_bytes(raw)
            partial.replace(path)

    def spec(self, function: str = "step:f", **fields: Any) -> StepSpec:
        """Returns a step's spec."""
        given = {"team": "support", "store": self.address, "bundle": str(self.bundle), "task_id": "t", "dag_id": "d"}
        return StepSpec.model_validate({"function": function, **given, **fields})

    def run(self, function: str = "step:f", *, fails: bool = False, **fields: Any) -> Ran:
        """Runs a step to its end."""
        if self._server is None or self._server.poll() is not None:
            self._server = subprocess.Popen(
                [sys.executable, "-c", _SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=(self.folder.parent / "runtime.log").open("a"), text=True,
                env={"PATH": "/usr/bin:/bin", "HOME": str(self.folder.parent), "PYTHONHASHSEED": "0", **self.environment},
            )  # fmt: skip
        server = self._server
        assert server.stdin is not None
        assert server.stdout is not None
        print(self.spec(function, **fields).model_dump_json(), file=server.stdin, flush=True)
        result = StepResult.model_validate_json(server.stdout.readline())
        assert (result.exit_code != 0) == fails, result.message
        return Ran(result, None if fails else self.content(result))

    def content(self, result: StepResult) -> Any:
        """Returns the JSON outputs of a step, by name."""
        manifest = self.manifest(result)
        return {
            name: json.loads(self.store.read(artifact)) if artifact.kind == "json" else artifact.digest
            for name, artifact in manifest.outputs.items()
        }

    def manifest(self, result: StepResult) -> Manifest:
        """Returns the manifest of a result."""
        return self.manifest_of(result.key)

    def manifest_of(self, key: str | None) -> Manifest:
        """Returns the manifest of a key."""
        found = self.store.manifest(key or "")
        assert found is not None
        return found

    @property
    def pid(self) -> int:
        """The id of the process that runs steps."""
        assert self._server is not None
        return self._server.pid

    def close(self) -> None:
        """Stops the process."""
        if self._server is not None:
            assert self._server.stdin is not None
            self._server.stdin.close()
            self._server.wait(timeout=20)
            self._server = None
