"""What the images contain and what they do not; prints their sizes and the time to a first line of output."""

from __future__ import annotations

import json

import pytest
from tests.e2e.installation import BUILD, CONTROL, Installation, run

POD = {"airflow": "deploy/kommuna-scheduler", "steps": "deploy/kommuna-mlflow"}
LOOK = """
import importlib.util, json, os, shutil, time
began = time.monotonic()
import airflow.sdk
sdk = time.monotonic() - began
print(json.dumps({
    "uid": os.getuid(),
    "sdk_seconds": round(sdk, 2),
    "compilers": [name for name in ("cc", "gcc", "clang", "g++", "make") if shutil.which(name)],
    "modules": [n for n in ("polars", "sklearn", "snorkel", "mlflow", "torch", "pytest") if importlib.util.find_spec(n)],
    "written": os.access("/opt/venv", os.W_OK) or os.access("/opt/kommuna", os.W_OK) or os.access("/etc", os.W_OK),
}))
"""
FIRST_LINE = """
import subprocess, sys, time
began = time.monotonic()
subprocess.run([sys.executable, "-m", "kommuna.runtime", "--help"], check=True, stdout=subprocess.DEVNULL)
print(time.monotonic() - began)
"""

pytestmark = pytest.mark.usefixtures("jobs")


@pytest.mark.parametrize(("image", "modules"), [("airflow", []), ("steps", ["polars", "sklearn", "snorkel", "mlflow"])])
def test_an_image_contains_what_it_needs_and_runs_as_an_ordinary_user(
    installation: Installation, image: str, modules: list[str]
) -> None:
    def python(code: str) -> str:
        output = installation.cluster.kubectl("-n", CONTROL, "exec", POD[image], "--", "python", "-c", code)
        return output.splitlines()[-1]

    found = json.loads(python(LOOK))
    assert found["modules"] == modules
    assert found["compilers"] == []
    assert found["uid"] != 0
    assert not found["written"]
    (about,) = json.loads(run("buildah", "images", "--json", f"localhost/kommuna/{image}:e2e"))
    line = {
        "image": image,
        "size": about["size"],
        "first_line_seconds": round(float(python(FIRST_LINE)), 2),
        "airflow_sdk_seconds": found["sdk_seconds"],
    }
    print("\n" + json.dumps(line))
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / f"image-{image}.json").write_text(json.dumps(line))
