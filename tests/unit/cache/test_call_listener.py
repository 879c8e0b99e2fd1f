"""Where the kernel does not report calls to the runtime, the result is not reused, and the log says why."""

from __future__ import annotations

import errno
import json
import os
import platform
import subprocess
import sys
from typing import Any

import pytest
from tests.rigs.cache import CacheRig

# Starts the runtime where one system call is refused, as a container's or a service's own filter does.
REFUSED = """
import ctypes, os, struct, sys
call, number = map(int, sys.argv[1:3])
code = [(0x20, 0, 0, 0), (0x15, 0, 1, call), (6, 0, 0, 0x00050000 | number), (6, 0, 0, 0x7FFF0000)]
program = b"".join(struct.pack("HBBI", *one) for one in code)
at = ctypes.create_string_buffer(program, len(program))
libc = ctypes.CDLL(None, use_errno=True)
libc.prctl(38, 1, 0, 0, 0)
assert libc.syscall(317, 1, 0, struct.pack("HxxxxxxQ", len(code), ctypes.addressof(at))) == 0
os.execv(sys.executable, [sys.executable, "-m", "kommuna.runtime", "--result", sys.argv[3]])
"""
PROCESS_VM_READV, SECCOMP = 310, 317


def run_where_refused(rig: CacheRig, call: int, number: int) -> tuple[dict[str, Any], str]:
    """Runs the step where a system call is refused; returns its result and the log."""
    result = rig.folder / "result.json"
    done = subprocess.run(
        [sys.executable, "-c", REFUSED, str(call), str(number), str(result)],
        input=rig.spec().model_dump_json(), text=True, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(result.read_text()), done.stdout + done.stderr


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of system calls")
@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS, errno.EFAULT])
def test_a_runtime_that_receives_no_calls_reuses_nothing(rig: CacheRig, number: int) -> None:
    rig.write({"step.py": "def f() -> dict[str, int]:\n    return {'n': 1}\n"})
    for _ in range(2):
        made, log = run_where_refused(rig, SECCOMP, number)
        assert not made["cached"]
        assert "what the step opens cannot be seen here" in log
        uses = rig.store.manifest(made["key"]).uses  # type: ignore[union-attr]
        assert uses is not None
        assert uses.unknown[0].startswith("what the step opens cannot be seen here: ")


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of system calls")
def test_a_result_is_reused_where_a_container_runtime_refuses_to_read_other_processes(rig: CacheRig) -> None:
    """The default seccomp profile of containerd and Docker refuses `process_vm_readv` without CAP_SYS_PTRACE."""
    rig.write({"step.py": "def f() -> dict[str, int]:\n    return {'n': len(open('/etc/hostname').read()) > 0}\n"})
    first, log = run_where_refused(rig, PROCESS_VM_READV, errno.EPERM)
    assert not first["cached"]
    assert "step.not_kept_for_others" not in log
    second, _ = run_where_refused(rig, PROCESS_VM_READV, errno.EPERM)
    assert second["cached"]


def test_the_result_is_not_reused_if_a_process_hides_its_memory(rig: CacheRig) -> None:
    """A privileged program does this; without the right to trace it, as root has, reading its memory is refused."""
    rig.write({
        "step.py": "import subprocess, sys\ndef f() -> dict[str, object]:\n"
        "    hides = 'import ctypes; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0); print(open(\"/usr/bin/env\", \"rb\").name)'\n"
        "    return {'n': subprocess.run([sys.executable, '-c', hides], capture_output=True, text=True).stdout}\n"
    })  # fmt: skip
    result = rig.folder / "result.json"
    unprivileged = [] if os.geteuid() else ["setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"]
    done = subprocess.run(
        [*unprivileged, sys.executable, "-m", "kommuna.runtime", "--result", str(result)],
        input=rig.spec().model_dump_json(), text=True, capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "what the step opens cannot be seen here: PermissionError" in done.stdout + done.stderr
