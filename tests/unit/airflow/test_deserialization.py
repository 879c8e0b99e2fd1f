"""What a stored value may construct under the platform's settings, by Airflow's own deserialiser."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from kommuna.airflow_settings import SHARED, variables

_SCRIPT = """
import json, sys
from airflow.sdk.serde import deserialize
print(type(deserialize(json.loads(sys.argv[1]))).__name__)
"""


def deserialized(classname: str, data: object, version: int = 1) -> subprocess.CompletedProcess[str]:
    value = json.dumps({"__classname__": classname, "__version__": version, "__data__": data})
    return subprocess.run(
        [sys.executable, "-c", _SCRIPT, value],
        env=variables(SHARED) | {"AIRFLOW_HOME": "/nonexistent", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("classname", "data", "type_"),
    [
        ("airflow.sdk.definitions.asset.Asset", {"name": "support__t", "uri": "support__t", "group": "asset"}, "Asset"),
        ("builtins.frozenset", [1], "frozenset"),
    ],
)
def test_assets_and_plain_values_are_constructed(classname: str, data: object, type_: str) -> None:
    done = deserialized(classname, data)
    assert done.stdout.strip().splitlines()[-1] == type_, done.stderr[-500:]


@pytest.mark.slow
@pytest.mark.parametrize(
    "classname",
    ["airflow.sdk.bases.operator.BaseOperator", "airflow.models.connection.Connection", "subprocess.Popen"],
)
def test_no_other_class_is_constructed(classname: str) -> None:
    done = deserialized(classname, {"args": "true"})
    assert done.returncode != 0
    assert f"{classname} was not found in allow list" in done.stderr
