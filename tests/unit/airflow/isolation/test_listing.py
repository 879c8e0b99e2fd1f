"""A bundle's DAG files, found without following a link."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from kommuna.airflow.isolation import listing
from kommuna.airflow.isolation.listing import MAX_SOURCE, dag_files, is_plain

DAG = "from airflow.sdk import DAG\n"


def names(bundle: Path) -> list[str]:
    return [str(path) for path in dag_files(bundle)]


def test_files_that_mention_airflow_and_a_dag_are_found(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.py").write_text(DAG)
    (tmp_path / "sub/b.py").write_text("from kommuna.airflow import TeamDag\n")
    (tmp_path / "helper.py").write_text("x = 1")
    (tmp_path / "notes.txt").write_text(DAG)
    assert names(tmp_path) == ["a.py", "sub/b.py"]


def test_no_link_is_followed_to_a_file_a_folder_or_an_ignore_file(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.py").write_text(DAG)
    (outside / "all").write_text("*.py")
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    (bundle / "own.py").write_text(DAG)
    (bundle / "file.py").symlink_to(outside / "secret.py")
    (bundle / "folder").symlink_to(outside)
    (bundle / "loop").symlink_to(bundle)
    (bundle / ".airflowignore").symlink_to(outside / "all")
    assert names(bundle) == ["own.py"]
    assert is_plain(bundle, "own.py")
    assert not is_plain(bundle, "file.py")
    assert not is_plain(bundle, "folder/secret.py")
    assert not is_plain(bundle, "gone.py")


def test_the_bundles_ignore_file_is_applied(tmp_path: Path) -> None:
    (tmp_path / ".airflowignore").write_text("drafts/\n# a comment\n*_old.py\n")
    (tmp_path / "drafts").mkdir()
    for name in ("drafts/a.py", "b_old.py", "c.py"):
        (tmp_path / name).write_text(DAG)
    assert names(tmp_path) == ["c.py"]


def test_a_file_too_large_is_listed_so_that_it_can_be_refused(tmp_path: Path) -> None:
    (tmp_path / "large.py").write_bytes(b"#" * (MAX_SOURCE + 1))
    assert names(tmp_path) == ["large.py"]


def test_airflow_by_itself_lists_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.utils.file import find_dag_file_paths

    outside, bundle = tmp_path / "outside", tmp_path / "linked/bundle"
    outside.mkdir()
    (outside / "secret.py").write_text(DAG)
    (tmp_path / "real/bundle/sub").mkdir(parents=True)
    (tmp_path / "linked").symlink_to(tmp_path / "real")  # above the bundle, links are the operator's
    for name in ("own.py", "sub/below.py"):
        (bundle / name).write_text(DAG)
    (bundle / "helper.py").write_text("x = 1")
    (bundle / "large.py").write_bytes(DAG.encode() + b"#" * MAX_SOURCE)
    (bundle / "file.py").symlink_to(outside / "secret.py")
    (bundle / "folder").symlink_to(outside)
    with zipfile.ZipFile(bundle / "dags.zip", "w") as archive:
        archive.writestr("zipped.py", DAG)
    bundles = [{"name": "support", "classpath": "x", "kwargs": {"path": str(bundle)}}]
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps(bundles))
    monkeypatch.setenv("AIRFLOW__CORE__MIGHT_CONTAIN_DAG_CALLABLE", f"{listing.__name__}.airflow_may_read")
    listing._bundle_folders.cache_clear()
    found = {str(Path(path).relative_to(bundle)) for path in find_dag_file_paths(bundle, safe_mode=True)}
    listing._bundle_folders.cache_clear()
    assert found == {"own.py", "sub/below.py"} == set(names(bundle)) - {"large.py"}
