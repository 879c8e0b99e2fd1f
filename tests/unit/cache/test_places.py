"""Files outside the bundle count, by whatever path, link, call or program a step reaches them, and no others do."""

from __future__ import annotations

import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.rigs.cache import CacheRig

from kommuna.runtime.places import Places, followed
from kommuna.store.why import not_given
from kommuna.waiting import wait_until

HEAD = """import ctypes, multiprocessing, os, shutil, socket, subprocess, sys, tempfile, time
from pathlib import Path
def run(*words, **more):
    return subprocess.run(words, capture_output=True, text=True, **more).stdout
def answer(function, *rest):
    try:
        return function(*rest)
    except OSError as error:
        return error.errno
"""


class Link(str):
    """The target of a link, among contents of files."""

    __slots__ = ()


Files = Mapping[str, str | Link | None]
NOTHING: Files = {}


class Case(NamedTuple):
    """The code of a step that uses a folder `at`, the folder's files before and after, and other changes."""

    name: str
    asks: str
    before: Files
    after: Files
    do: Callable[[Path], object] = lambda _: None
    kept: bool = True


TEMPORARY = "with tempfile.TemporaryDirectory(dir='/var/tmp') as t:\n    "
A_LINK = {"rev/a/x": "1", "rev/cfg": "1", "cur": Link("rev/a")}
CASES = [
    Case("a way up out of the system's folder", "out = open(f'/usr/..{at}/x').read()", {"x": "1"}, {"x": "2"}),
    Case("a way up out of a library's folder", "up = '/..' * 20\nout = open(f'{os.path.dirname(socket.__file__)}{up}{at}/x').read()", {"x": "1"}, {"x": "2"}),
    Case("a way up out of Python's folder", "up = '/..' * 20\nout = open(f'{sys.prefix}/bin{up}{at}/x').read()", {"x": "1"}, {"x": "2"}),
    Case("a way up out of the work folder", "out = open(os.path.join(os.getcwd(), os.path.relpath(f'{at}/x'))).read()", {"x": "1"}, {"x": "2"}),
    Case("two slashes", "out = open(f'/{at}//x').read()", {"x": "1"}, {"x": "2"}),
    Case("two slashes before what comes", "out = answer(lambda: open(f'/{at}//x').read())", NOTHING, {"x": "2"}),
    Case("a way up from where a link leads", "out = open(f'{at}/cur/../cfg').read()", A_LINK, {"rev/cfg": "2"}),
    Case("a way up from where a link leads, the link", "out = open(f'{at}/cur/../cfg').read()", {**A_LINK, "other/cfg": "2", "other/b/x": ""}, {"cur": Link("other/b")}),
    Case("a way up to what comes", "out = answer(lambda: open(f'{at}/cur/../cfg').read())", {"rev/a/x": "1", "cur": Link("rev/a")}, {"rev/cfg": "2"}),
    Case("a way up that is looked at", "out = os.path.exists(f'{at}/cur/../flag')", A_LINK, {"rev/flag": ""}),
    Case("a way up from what is not there", "out = os.path.exists(f'{at}/no/../x')", {"x": ""}, {"no/y": ""}),
    Case("a link that leads elsewhere", "out = open(f'{at}/cur/x').read()", {**A_LINK, "new/x": "2"}, {"cur": Link("new")}),
    Case("a folder that is gone to by a link", "os.chdir(f'{at}/cur')\nout = open('x').read()", {**A_LINK, "new/x": "2"}, {"cur": Link("new")}),
    Case("a descriptor of a folder", "d = os.open(f'{at}/cur', os.O_PATH)\nout = os.path.exists(f'/proc/self/fd/{d}/flag'), answer(lambda: os.stat('flag', dir_fd=d).st_size)", A_LINK, {"rev/a/flag": ""}),
    Case("this process's root", "out = open(f'/proc/self/root{at}/x').read()", {"x": "1"}, {"x": "2"}),
    Case("a link in the work folder", "os.symlink(f'{at}/x', 'y')\nout = open('y').read()", {"x": "1"}, {"x": "2"}),
    Case("a link in the work folder to a folder", "os.symlink(at, 'y')\nout = open('y/x').read()", {"x": "1"}, {"x": "2"}),
    Case("a second name in the work folder", "os.link(f'{at}/x', 'y')\nout = open('y').read()", {"x": "1"}, {"x": "2"}, kept=False),
    Case("a link in a temporary folder", f"{TEMPORARY}os.symlink(f'{{at}}/x', f'{{t}}/y')\n    out = open(f'{{t}}/y').read()", {"x": "1"}, {"x": "2"}),
    Case("a second name in a temporary folder", f"{TEMPORARY}os.link(f'{{at}}/x', f'{{t}}/y')\n    out = open(f'{{t}}/y').read()", {"x": "1"}, {"x": "2"}, kept=False),
    Case("a look around os", "out = ctypes.CDLL(None).access(f'{at}/flag'.encode(), 0)", NOTHING, {"flag": ""}),
    Case("a look of a library", "import pyarrow.fs\nout = pyarrow.fs.LocalFileSystem().get_file_info(f'{at}/x').size", {"x": "1"}, {"x": "22"}),
    Case("a look of a shell", "out = run('/bin/sh', '-c', f'test -e {at}/flag && echo yes')", NOTHING, {"flag": ""}),
    Case("a look of a program", "out = run('stat', '-c', '%s', f'{at}/x')", {"x": "1"}, {"x": "22"}),
    Case("a link that a program reads", "out = run('readlink', f'{at}/cur')", {"cur": Link("a")}, {"cur": Link("b")}),
    Case("a look of a started Python", "with multiprocessing.get_context('spawn').Pool(1) as pool:\n    out = pool.apply(os.path.exists, (f'{at}/flag',))", NOTHING, {"flag": ""}),
    Case("a look of a forked process", "with multiprocessing.get_context('fork').Pool(1) as pool:\n    out = pool.apply(os.path.exists, (f'{at}/flag',))", NOTHING, {"flag": ""}),
    Case("a file that becomes a link to its like", "out = os.path.islink(f'{at}/a')", {"x": "1", "a": "1"}, {"a": Link("x")}),
    Case("a folder in a listing that becomes a link", "out = [e.is_symlink() for e in os.scandir(f'{at}/d')]", {"o/a": "1", "d/s/a": "1"}, {"d/s": Link("../o")}),
    Case("a link to nothing in a listing", "out = [e.is_dir() for e in os.scandir(f'{at}/d')]", {"d/a": Link("nowhere")}, {"d/a": None, "d/a/x": ""}),
    Case("whether a file can be run", "out = os.access(f'{at}/x', os.X_OK)", {"x": ""}, NOTHING, lambda at: (at / "x").chmod(0o755)),
    Case("a program that is not there", "out = answer(run, f'{at}/tool')", NOTHING, {"tool": "#!/bin/sh\necho hi"}, lambda at: (at / "tool").chmod(0o755)),
    Case("a program that cannot be run", "out = answer(run, f'{at}/tool')", {"tool": "#!/bin/sh\necho hi"}, NOTHING, lambda at: (at / "tool").chmod(0o755)),
    Case("a program that another one hides", "os.environ['PATH'] = f'{at}:/usr/bin:/bin'\nout = run('date', '-d@0', '+%s')", NOTHING, {"date": "#!/bin/sh\necho hi"}, lambda at: (at / "date").chmod(0o755)),
    Case("what a script is run by", "Path('tool').write_text(f'#!{at}/by\\nhi')\nos.chmod('tool', 0o755)\nout = run('./tool')", {"by": Link("/bin/cat")}, {"by": Link("/bin/true")}),
    Case("a setting in the home folder", "os.environ['HOME'] = at\nout = run('git', 'config', 'user.name')", NOTHING, {".config/git/config": "[user]\n name = Ann"}),
    Case("a branch that git packed", "out = run('git', '-C', at, '-c', 'safe.directory=*', 'rev-parse', 'HEAD')", {".git/HEAD": "ref: refs/heads/main\n", ".git/config": "[core]\n repositoryformatversion = 0\n", ".git/objects/x": "", ".git/refs/x": "", ".git/packed-refs": f"# pack-refs with: peeled fully-peeled sorted \n{'a' * 40} refs/heads/main\n"}, {".git/refs/heads/main": f"{'b' * 40}\n"}),
]  # fmt: skip


def put(at: Path, files: Files) -> None:
    """Writes files, links (`Link`) and, for None, nothing where something was."""
    for name, content in files.items():
        path = at / name
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.is_dir():
            shutil.rmtree(path)
        if content is None:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(content) if isinstance(content, Link) else path.write_text(content)


@pytest.fixture
def at() -> Iterator[Path]:
    """A folder that is neither temporary, nor the system's, nor the bundle's."""
    folder = Path("/var/kommuna-test") / f"{os.getpid()}-{time.time_ns()}"
    folder.mkdir(parents=True)
    yield folder
    shutil.rmtree(folder)


def step(asks: str) -> str:
    """Returns the source of a step that uses `at`."""
    lines = "\n".join(f"    {line}" for line in asks.splitlines())
    return f"{HEAD}def f(*, at: str) -> dict[str, object]:\n{lines}\n    return {{'n': out}}\n"


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_places_that_a_step_reaches_count(rig: CacheRig, at: Path, case: Case) -> None:
    put(at, case.before)
    rig.write({"step.py": step(case.asks)})
    spec = {"params": {"at": str(at)}}
    first = rig.run(**spec)
    assert rig.run(**spec).hit == case.kept, rig.manifest(first.result).uses
    put(at, {"more": "", "rev/more": ""})
    assert rig.run(**spec).hit == case.kept, rig.manifest(first.result).uses
    put(at, case.after)
    case.do(at)
    after = rig.run(**spec)
    fresh = rig.run(**spec, cache=False)
    assert fresh.content != first.content
    assert after.content == fresh.content


@pytest.mark.parametrize(
    "asks", ["os.path.getsize(p)", "os.path.exists(p)", "os.readlink(f'{at}/l')", "os.listdir(at)"]
)
@pytest.mark.parametrize("name", ["x", "l"])
def test_the_result_is_not_reused_if_an_inspected_place_changes_while_the_step_runs(
    rig: CacheRig, at: Path, asks: str, name: str
) -> None:
    put(at, {"x": "1", "y": "22", "l": Link("x")})
    looked = Path(f"/tmp/kommuna-{uuid.uuid4()}")  # where a step's writing counts for nothing
    rig.write({"step.py": step(f"p = f'{{at}}/{name}'\nout = {asks}\nopen('{looked}', 'w').close()\ntime.sleep(0.6)")})
    spec = {"params": {"at": str(at)}}
    changes: Files = {"x": None, "l": Link("y")} if "list" in asks or "exists" in asks else {"x": "333", "l": Link("y")}

    def swap() -> None:
        wait_until("the step has looked", looked.exists, every=0.01)
        put(at, changes)

    swapping = threading.Thread(target=swap)
    swapping.start()
    first = rig.run(**spec)
    swapping.join(timeout=20)
    looked.unlink()
    assert any("changed while the step ran" in why for why in not_given(rig.manifest(first.result)))
    assert rig.run(**spec).content == rig.run(**spec, cache=False).content


@pytest.mark.parametrize(
    "does",
    [
        "ctypes.CDLL(None).creat(f'{at}/new'.encode(), 0o644)",
        "os.chown(f'{at}/x', -1, os.getgid())",
        "os.lchown(f'{at}/x', -1, os.getgid())",
        "os.chmod(os.open(f'{at}/x', os.O_RDONLY), 0o600)",
        "os.utime(os.open(f'{at}/x', os.O_RDONLY))",
        "answer(os.setxattr, f'{at}/x', 'user.a', b'1')",
        "answer(os.removexattr, f'{at}/x', 'user.a')",
        "os.mkfifo(f'{at}/pipe{os.getpid()}')",
        "answer(os.mknod, f'{at}/node{os.getpid()}')",
        "socket.socket(socket.AF_UNIX).bind(f'{at}/socket{os.getpid()}')",
        "os.rename(f'{at}/x', f'{tempfile.mkdtemp()}/x')",
        "os.symlink('a', f'{at}/link{os.getpid()}')",
        "os.link(f'{at}/x', f'{at}/link{os.getpid()}')",
    ],
)
def test_the_result_is_not_reused_if_the_step_changes_a_file_elsewhere(rig: CacheRig, at: Path, does: str) -> None:
    put(at, {"x": "1"})
    rig.write({"step.py": step(f"out = 1\n{does}")})
    made = rig.manifest(rig.run(params={"at": str(at)}).result)
    assert "a cached result would not" in "; ".join(not_given(made))


def test_an_existing_temporary_file_counts_even_if_the_step_changes_its_date(rig: CacheRig) -> None:
    left = Path("/var/tmp") / f"kommuna-test-{os.getpid()}"
    left.write_text("1")
    try:
        rig.write({"step.py": step("os.utime(at)\nout = open(at).read()")})
        spec = {"params": {"at": str(left)}}
        rig.run(**spec)
        left.write_text("2")
        assert rig.run(**spec).content == {"result": {"n": "2"}}
    finally:
        left.unlink()


def test_a_library_counts_if_its_file_is_inspected_before_it_is_read(rig: CacheRig) -> None:
    source = step(
        "at = importlib.util.find_spec(at).origin\nout = os.stat(at).st_size, os.path.getsize(at), len(open(at).read())"
    )
    rig.write({"step.py": f"import importlib.util\n{source}"})
    uses = rig.manifest(rig.run(params={"at": "threadpoolctl"}).result).uses
    assert uses is not None
    assert "threadpoolctl" in uses.libraries


def test_a_file_in_shared_memory_of_another_process_counts(rig: CacheRig) -> None:
    shared = Path("/dev/shm") / f"kommuna-test-{os.getpid()}"
    shared.write_text("1")
    try:
        rig.write({"step.py": step("out = open(at).read()")})
        spec = {"params": {"at": str(shared)}}
        rig.run(**spec)
        assert rig.run(**spec).hit
        shared.write_text("2")
        assert rig.run(**spec).content == {"result": {"n": "2"}}
    finally:
        shared.unlink()


def test_paths_are_resolved_as_by_the_kernel(at: Path) -> None:
    put(at, {"rev/a/x": "", "cur": Link("rev/a"), "loop": Link("loop"), "b": Link(f"{at}/cur/../c")})
    places = Places()
    assert followed(f"{at}//./cur/x") == f"{at}/cur/x"
    assert followed(f"{at}/cur/../x") == f"{at}/rev/x"
    assert followed(f"{at}/no/../x") == f"{at}/no"
    assert followed("/..") == "/"
    place = places.of(f"{at}/cur/../y")
    assert (place.name, place.crossed, place.links) == (f"{at}/rev/y", ((f"{at}/cur", "rev/a"),), ())
    assert places.of(f"{at}/b").real == f"{at}/rev/c"
    assert places.of(f"{at}/b", follows=False).real == f"{at}/b"
    assert places.of(f"{at}/loop/x").name == f"{at}/loop/x"
    assert places.of("/proc/self/cwd/x", process=os.getpid()).real == f"{Path.cwd()}/x"
