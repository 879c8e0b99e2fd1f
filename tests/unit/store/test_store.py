"""Artifacts and manifests: addressed by content, whole or absent, checked on read."""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kommuna.errors import IntegrityError, StoreError, StoreUnreachable, TeamMistake
from kommuna.spec.step import StoreAddress
from kommuna.store import Artifact, Manifest, Store

KEY = "a" * 64


def put(store: Store, content: bytes, *, suffix: str = ".json") -> Artifact:
    with store.scratch() as folder:
        path = folder / "out"
        path.write_bytes(content)
        return store.put(path, kind="json", suffix=suffix)


def manifest_of(artifact: Artifact, key: str = KEY) -> Manifest:
    return Manifest(
        key=key, team="support", function="m:f", outputs={"result": artifact}, version="0",
        started=datetime.now(UTC), seconds=1.0, peak_memory_bytes=1,
    )  # fmt: skip


def files(store: Store) -> list[str]:
    root = Path(store.address.url.removeprefix("file://"))
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_an_artifact_is_named_by_its_content_and_stored_once(store: Store) -> None:
    first, second = put(store, b"{}"), put(store, b"{}")
    digest = hashlib.sha256(b"{}").hexdigest()
    assert first == second
    assert files(store) == [f"support/artifacts/{digest[:2]}/{digest}.json"]


def test_a_written_manifest_is_read_back(store: Store) -> None:
    manifest = manifest_of(put(store, b"{}"))
    store.write_manifest(manifest)
    assert store.manifest(KEY) == manifest
    assert list(store.manifests()) == [manifest]


def test_a_half_written_manifest_is_a_miss(store: Store) -> None:
    store.write_manifest(manifest_of(put(store, b"{}")))
    path = Path(store.manifest_url(KEY).removeprefix("file://"))
    path.write_bytes(path.read_bytes()[:-20])
    assert store.manifest(KEY) is None


def test_a_manifest_with_a_missing_or_truncated_artifact_is_a_miss(store: Store) -> None:
    artifact = put(store, b'{"a": 1}')
    store.write_manifest(manifest_of(artifact))
    path = Path(store.url(artifact).removeprefix("file://"))
    path.chmod(0o644)
    path.write_bytes(b'{"a"')
    assert store.manifest(KEY) is None
    path.unlink()
    assert store.manifest(KEY) is None


def test_a_manifest_under_another_key_is_a_miss(store: Store) -> None:
    store.write_manifest(manifest_of(put(store, b"{}")))
    source = Path(store.manifest_url(KEY).removeprefix("file://"))
    target = Path(store.manifest_url("c" * 64).removeprefix("file://"))
    target.parent.mkdir(parents=True)
    target.write_bytes(source.read_bytes())
    assert store.manifest("c" * 64) is None


def test_changed_bytes_are_detected_when_an_artifact_is_read(store: Store, tmp_path: Path) -> None:
    artifact = put(store, b'{"a": 1}')
    path = Path(store.url(artifact).removeprefix("file://"))
    path.chmod(0o644)
    path.write_bytes(b'{"a": 2}')
    with pytest.raises(IntegrityError, match="was changed in the store"):
        store.fetch(artifact, tmp_path)


def damage(store: Store, artifact: Artifact, content: bytes) -> None:
    path = Path(store.url(artifact).removeprefix("file://"))
    path.chmod(0o644)
    path.write_bytes(content)


def test_a_damaged_artifact_of_the_same_size_is_removed_and_made_again(store: Store, tmp_path: Path) -> None:
    artifact = put(store, b'{"a": 1}')
    manifest = manifest_of(artifact)
    store.write_manifest(manifest)
    assert store.is_whole(manifest)
    damage(store, artifact, b'{"a": 2}')
    assert not store.is_whole(manifest)
    assert store.manifest(KEY) is None
    assert put(store, b'{"a": 1}') == artifact
    assert store.is_whole(manifest)
    assert store.fetch(artifact, tmp_path).read_bytes() == b'{"a": 1}'


def test_a_damaged_artifact_that_a_reader_finds_makes_its_producer_run_again(store: Store, tmp_path: Path) -> None:
    artifact = put(store, b'{"a": 1}')
    store.write_manifest(manifest_of(artifact))
    damage(store, artifact, b'{"a": 2}')
    with pytest.raises(IntegrityError, match="it has been removed; run the step that made it again"):
        store.fetch(artifact, tmp_path)
    assert store.manifest(KEY) is None


def test_a_step_that_ignores_the_cache_replaces_a_damaged_artifact(store: Store, tmp_path: Path) -> None:
    artifact = put(store, b'{"a": 1}')
    damage(store, artifact, b'{"a": 2}')
    assert put(store, b'{"a": 1}') == artifact
    assert store.fetch(artifact, tmp_path).read_bytes() == b'{"a": 1}'


def test_a_manifest_of_another_team_under_the_right_key_is_a_miss(store: Store) -> None:
    manifest = manifest_of(put(store, b"{}"))
    store.write_manifest(manifest.model_copy(update={"team": "fraud"}))
    assert store.manifest(KEY) is None


def test_the_work_folder_is_gone_at_the_end_and_after_an_error(store: Store) -> None:
    def half() -> None:
        with store.scratch() as folder:
            (folder / "half").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert files(store) == []


def test_files_of_a_killed_process_are_removed_by_the_next_one(store: Store) -> None:
    gone = subprocess.run(
        ["python3", "-c", "import os, socket; print(socket.gethostname(), os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    )
    host, pid = gone.stdout.split()
    left = Path(store.address.url.removeprefix("file://"), "support", "tmp", f"{host}-{pid}-0123abcd")
    left.mkdir(parents=True)
    (left / "half.parquet").write_text("x")
    with store.scratch():
        assert not left.exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"a tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["mount", "-o", "remount,rw", str(folder)], check=False)
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_store_is_reported_and_has_no_partial_files(small_disk: Path, tmp_path: Path) -> None:
    store = Store(StoreAddress(url=small_disk.as_uri()), "support")
    artifact = put(store, b"{}")
    (small_disk / "fill").write_bytes(b"x" * 240_000)
    with pytest.raises(StoreError, match="the artifact store is full"):
        store.write_manifest(manifest_of(artifact).model_copy(update={"params": {"big": "x" * 50_000}}))
    assert store.manifest(KEY) is None
    assert not list(small_disk.rglob("*.json.*"))


def test_a_read_only_store_is_reported(small_disk: Path) -> None:
    store = Store(StoreAddress(url=small_disk.as_uri()), "support")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    with pytest.raises(StoreError, match="refuses to write"):
        put(store, b"{}")


@pytest.mark.parametrize("url", ["nosuch://x", "reference://x", "jupyter://h/x"])
def test_a_store_that_cannot_be_opened_is_refused_whatever_its_driver_raises(url: str) -> None:
    with pytest.raises(StoreError, match=f"the store's URL '{url}' cannot be used"):
        Store(StoreAddress(url=url), "support")


def test_a_store_whose_server_is_down_is_unreachable() -> None:
    with pytest.raises(StoreUnreachable, match="the artifact store does not answer"):
        Store(StoreAddress(url="ftp://127.0.0.1:9/x"), "support")


@pytest.mark.parametrize("path", ["../fraud/inbox/x.csv", "inbox/../../fraud/x", "", "/etc/passwd"])
def test_a_path_out_of_the_teams_prefix_is_refused(store: Store, tmp_path: Path, path: str) -> None:
    with pytest.raises(TeamMistake, match="leaves the team's part"):
        store.inbox_file(path, tmp_path)


def test_a_link_out_of_the_teams_prefix_is_refused(store: Store, tmp_path: Path) -> None:
    inbox = Path(store.address.url.removeprefix("file://"), "support", "inbox")
    inbox.mkdir(parents=True)
    (tmp_path / "secret.csv").write_text("x")
    (inbox / "messages.csv").symlink_to(tmp_path / "secret.csv")
    with pytest.raises(TeamMistake, match="leaves the team's part"):
        store.inbox_file("inbox/messages.csv", tmp_path)


def test_two_teams_do_not_see_each_other(store: Store) -> None:
    store.write_manifest(manifest_of(put(store, b"{}")))
    other = Store(store.address, "fraud")
    assert other.manifest(KEY) is None
    assert list(other.manifests()) == []


def test_a_name_with_unprintable_characters_is_refused(store: Store, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    with pytest.raises(TeamMistake, match=r"characters that are not printable"):
        store.put_inbox(tmp_path / "f", "inbox/a\nb.csv")
