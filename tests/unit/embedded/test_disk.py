"""A full or read-only disk is reported readably, and does not end what could go on."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kommuna.embedded import Embedded, supervise, supervision
from kommuna.embedded.disk import explained_disk_errors, require_space
from kommuna.embedded.leftovers import STATE_VARIABLE, end_all, marked
from kommuna.embedded.sockets import remove_sockets_folder
from kommuna.errors import PlatformFault
from kommuna.spec.installation import Installation
from kommuna.spec.team import Platform
from kommuna.waiting import wait_until


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A disk of 4 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"needs the right to mount a small disk (root): {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def platform(folder: Path) -> Embedded:
    return Embedded(Installation(Platform.model_validate({"teams": {"support": {"bundle": "dags"}}}), folder))


def test_a_start_on_a_full_disk_is_refused(small: Path) -> None:
    with pytest.raises(
        PlatformFault, match=r"the disk is full: [34] MiB are free, and the platform needs 200 MiB"
    ) as found:
        platform(small).up()
    assert found.value.where == str(small / ".kommuna")
    assert "free some space" in found.value.fix


def test_a_completely_full_disk_is_reported(small: Path) -> None:
    filled = subprocess.run(["dd", "if=/dev/zero", f"of={small}/filler", "bs=4k"], capture_output=True, check=False)
    assert b"No space left" in filled.stderr
    with pytest.raises(PlatformFault, match="the disk is full"):
        platform(small).up()


def test_a_state_folder_that_cannot_be_written_is_reported(small: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    for attempt in (platform(small).up, platform(small).release):
        with pytest.raises(PlatformFault, match="the state folder cannot be written: read-only file system") as found:
            attempt()
        assert "set `state:` in kommuna.yaml" in found.value.fix


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_another_user_is_reported(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PlatformFault, match="the state folder cannot be written: permission denied"):
        platform(tmp_path).up()


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EROFS, "the state folder cannot be written: read-only file system"),
        (errno.EACCES, "the state folder cannot be written: permission denied"),
    ],
)
def test_each_system_error_has_a_readable_message(tmp_path: Path, number: int, said: str) -> None:
    with pytest.raises(PlatformFault, match=said) as found, explained_disk_errors(tmp_path):
        raise OSError(number, os.strerror(number), "/some/file")
    assert found.value.where == "/some/file"


def test_other_errors_are_unchanged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), explained_disk_errors(tmp_path):
        (tmp_path / "nothing").read_text()


def test_free_space_is_that_of_the_disk_of_the_future_folder(tmp_path: Path) -> None:
    require_space(tmp_path / "not/yet/there", least=1)
    with pytest.raises(PlatformFault, match="MiB are free, and the platform needs"):
        require_space(tmp_path / "not/yet/there", least=1 << 60)


CHATTY = [sys.executable, "-u", "-c", "import time\nwhile True: print('x' * 1000); time.sleep(0.01)"]


@pytest.mark.slow
def test_supervision_survives_a_disk_on_which_no_log_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    configuration = supervision.write_configuration(tmp_path, {"chatty": CHATTY})
    for log in ("supervisord.log", "chatty.log", "supervisord.out"):
        (tmp_path / "logs" / log).symlink_to("/dev/full")
    with (tmp_path / "logs/supervisord.out").open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", supervise.__name__, "-c", str(configuration)],
            env={**os.environ, STATE_VARIABLE: str(tmp_path)},
            stdout=file, stderr=file, cwd=tmp_path, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until("supervisord answers", lambda: supervision.client(tmp_path) is not None, every=0.05)
        supervision.start_program(supervision.client(tmp_path), "chatty")
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            assert process.poll() is None, "supervisord has died"
            time.sleep(0.1)
        (chatty,) = supervision.processes(tmp_path)
        assert (chatty.state, chatty.restarts) == ("running", 0)
    finally:
        process.kill()
        process.wait()
        end_all(marked(str(tmp_path)))
        remove_sockets_folder(tmp_path)
