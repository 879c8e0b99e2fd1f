"""The path of the sockets' folder is short, and the folder is private."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kommuna.embedded.sockets import is_private, make_sockets_folder, remove_sockets_folder, sockets_folder
from kommuna.errors import PlatformFault


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    folder = sockets_folder(tmp_path)
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        folder.chmod(0o700)
        remove_sockets_folder(tmp_path)


def test_any_state_folder_gives_a_socket_path_that_is_short_enough(tmp_path: Path) -> None:
    long = tmp_path / ("ж" * 300)
    assert len(str(sockets_folder(long) / ".s.PGSQL.5432.lock").encode()) < 100
    assert sockets_folder(long) != sockets_folder(long / "other")
    assert sockets_folder(long) == sockets_folder(long)


def test_the_folder_is_private_and_removed_with_its_contents(state: Path) -> None:
    folder = make_sockets_folder(state)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert make_sockets_folder(state) == folder
    (folder / "left").touch()
    remove_sockets_folder(state)
    assert not folder.exists()


def test_an_accessible_folder_of_that_name_is_refused_and_kept(state: Path) -> None:
    folder = sockets_folder(state)
    folder.mkdir()
    folder.chmod(0o755)
    with pytest.raises(PlatformFault, match="is not a folder that only this user can enter"):
        make_sockets_folder(state)
    remove_sockets_folder(state)
    assert folder.exists()


def test_a_link_to_a_private_folder_is_not_one(state: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.mkdir(mode=0o700)
    sockets_folder(state).symlink_to(target)
    assert not is_private(sockets_folder(state))
    with pytest.raises(PlatformFault):
        make_sockets_folder(state)
