"""A platform of two teams in a temporary folder, and a way to load a DAG file of one."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

PLATFORM = """
teams:
  support: {bundle: dags/support, owner: Client support, tags: [messages], retries: 3, pools: {default: 4, gpu: 1}}
  fraud: {bundle: dags/fraud}
"""


@pytest.fixture
def platform(tmp_path: Path) -> Path:
    for team in ("support", "fraud"):
        (tmp_path / "dags" / team).mkdir(parents=True)
    (tmp_path / "kommuna.yaml").write_text(PLATFORM)
    return tmp_path


@pytest.fixture
def load(platform: Path) -> Callable[..., ModuleType]:
    """Writes a DAG file into a team's bundle and imports it."""

    def load(source: str, *, team: str = "support", name: str = "file.py") -> ModuleType:
        path = platform / "dags" / team / name
        path.write_text(source)
        spec = importlib.util.spec_from_file_location(f"dag_{team}_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load
