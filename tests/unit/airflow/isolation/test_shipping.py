"""Shipping of bundles: what arrives is what was committed, and nothing is unpacked outside."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from kommuna.airflow.isolation import shipping
from kommuna.errors import DataError, PlatformFault


def archive(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for member, content in members:
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def link(name: str, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


def test_a_folder_arrives_without_git_and_caches(tmp_path: Path) -> None:
    (tmp_path / "from/sub").mkdir(parents=True)
    (tmp_path / "from/.git").mkdir()
    (tmp_path / "from/.git/config").write_text("secret")
    (tmp_path / "from/sub/a.py").write_text("x = 1")
    arrived = shipping.unpack(shipping.pack_folder(tmp_path / "from"), tmp_path / "versions", "v1")
    assert sorted(str(path.relative_to(arrived)) for path in arrived.rglob("*") if path.is_file()) == ["sub/a.py"]
    assert (arrived / "sub/a.py").read_text() == "x = 1"


def test_a_version_changes_with_a_files_content_and_not_with_reading_it(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    first = shipping.digest_of(tmp_path)
    assert shipping.digest_of(tmp_path) == first
    (tmp_path / "a.py").write_text("12")
    assert shipping.digest_of(tmp_path) != first


def test_nothing_is_unpacked_outside_of_the_versions_folder(tmp_path: Path) -> None:
    hostile = archive(
        (link("out", "/etc"), b""), (link("up", "../../.."), b""), (tarfile.TarInfo("fine.py"), b"x"),
    )  # fmt: skip
    arrived = shipping.unpack(hostile, tmp_path / "versions", "v1")
    assert [path.name for path in arrived.iterdir()] == ["fine.py"]
    with pytest.raises(DataError, match="cannot be unpacked"):
        shipping.unpack(archive((tarfile.TarInfo("../up.py"), b"x")), tmp_path / "versions", "v2")
    assert [path.name for path in (tmp_path / "versions").iterdir()] == ["v1"]


@pytest.mark.parametrize("version", ["", ".", "..", "../x", "a/b", "x" * 101, ".hidden"])
def test_a_version_names_one_folder_or_is_refused(version: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a version"):
        shipping.folder_of(tmp_path, version)


def test_a_bundle_that_is_too_large_is_refused_with_a_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipping, "MAX_BUNDLE", 1000)
    (tmp_path / "data.csv").write_bytes(b"x" * 2000)
    with pytest.raises(DataError) as error:
        shipping.pack_folder(tmp_path)
    assert "keep data out of it" in error.value.fix


def test_a_commit_is_packed_as_it_was_committed(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=t", "-c", "user.email=t@example.org"]
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.py").write_text("committed")
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "1"]):
        subprocess.run([*git, *command], check=True)
    (tmp_path / "sub/a.py").write_text("edited")
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    arrived = shipping.unpack(shipping.pack_commit(tmp_path, commit, below="sub"), tmp_path / "versions", commit)
    assert (arrived / "a.py").read_text() == "committed"
    with pytest.raises(PlatformFault, match="git cannot pack"):
        shipping.pack_commit(tmp_path, "0" * 40)


def test_old_versions_are_forgotten_but_not_those_in_use(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"v{number}").mkdir()
        os.utime(tmp_path / f"v{number}", (number, number))
    shipping.forget_old(tmp_path, keep=2, in_use={"v0"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v0", "v3", "v4"]
