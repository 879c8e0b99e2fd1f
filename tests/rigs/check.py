"""A bundle with some files, and the findings of `kommuna check` in each."""

from __future__ import annotations

import zipfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from kommuna.cli.check.process.limits import Limits
from kommuna.cli.check.process.start import inspect


def findings_of(
    folder: Path, files: Mapping[str, str | bytes], limits: Limits | None = None
) -> dict[str, list[tuple[int, str, str]]]:
    """Returns line, message and fix of each finding, by file; the files form one bundle of team `support`."""
    (folder / "kommuna.yaml").write_text(
        "teams:\n  support: {bundle: dags, pools: {default: 8, slow: 2}}\n  fraud: {bundle: other}\n"
    )
    bundle = folder / "dags"
    for name, content in files.items():
        path = bundle / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = defaultdict(list)
    for finding in inspect(bundle, limits).findings:
        assert finding.fix
        found[finding.file].append((finding.line, finding.what, finding.fix))
    return dict(found)


def dag(name: str, body: str = "EmptyOperator(task_id='t')", **options: str) -> str:
    """Returns a DAG file whose body begins at line 4."""
    arguments = "".join(f", {key}={value}" for key, value in options.items())
    head = "from airflow.providers.standard.operators.empty import EmptyOperator\nfrom kommuna.airflow import *\n"
    return f"{head}with TeamDag('{name}'{arguments}):\n    " + body.replace("\n", "\n    ") + "\n"


def zipped(path: Path, **files: str) -> bytes:
    """Returns an archive of files."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(f"{name}.py", text)
    content = path.read_bytes()
    path.unlink()
    return content
