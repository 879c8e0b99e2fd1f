"""Files that runs share: written atomically, found by name, and an error is not treated as a missing file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kommuna.errors import StoreError
from kommuna.spec.step import StoreAddress
from kommuna.steps.shared_folder import SealedFolder, SharedFolder


@pytest.fixture
def folder(tmp_path: Path) -> SharedFolder:
    return SharedFolder(StoreAddress(url=tmp_path.as_uri()), "a/b", what="answers")


def test_written_files_are_read_and_missing_files_are_left_out(folder: SharedFolder) -> None:
    assert folder.names(ending=".json") == []
    folder.write("2.json", b"two")
    folder.write("1.json", b"one")
    folder.write("1.json", b"uno")
    folder.write("x.txt", b"x")
    assert folder.names(ending=".json") == ["1.json", "2.json"]
    assert folder.read(["1.json", "3.json", "2.json"]) == {"1.json": b"uno", "2.json": b"two"}
    folder.remove(["1.json", "3.json"])
    assert folder.names(ending=".json") == ["2.json"]


def test_an_unreadable_file_is_an_error_and_not_treated_as_missing(folder: SharedFolder, tmp_path: Path) -> None:
    (tmp_path / "a/b/1.json").mkdir(parents=True)
    with pytest.raises(StoreError, match="the stored answers cannot be read or written"):
        folder.read(["1.json"])


def test_no_partial_file_remains(folder: SharedFolder, tmp_path: Path) -> None:
    folder.write("1.json", b"one")
    assert [path.name for path in (tmp_path / "a/b").iterdir()] == ["1.json"]


@pytest.mark.parametrize(
    "damage", [lambda raw: raw[:-1], lambda raw: b"", lambda raw: raw + b"x", lambda raw: b"x" + raw]
)
def test_a_damaged_file_of_a_sealed_folder_is_set_aside(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    folder = SealedFolder(StoreAddress(url=tmp_path.as_uri()), "a", what="rounds")
    folder.write("1.json", b"one")
    folder.write("2.json", b"")
    assert folder.read(["1.json", "2.json", "3.json"]) == {"1.json": b"one", "2.json": b""}
    path = tmp_path / "a/1.json"
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    assert folder.read(["1.json", "2.json"]) == {"2.json": b""}
    assert folder.names(ending=".json") == ["2.json"]
    assert folder.damaged == 1
    folder.write("1.json", b"uno")
    assert folder.read(["1.json"]) == {"1.json": b"uno"}
