"""`down` leaves the machine as `up` found it, also when `up` was killed half-way or a node's programs have crashed.

These start and stop the cluster, so they are skipped while somebody uses it.
"""

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import pytest
from tests.e2e.cluster.client import Cluster, busybox, environment, eventually

HERE = Path(__file__).parent
LOGS = Path(os.environ.get("KOMMUNA_CLUSTER_LOGS", HERE.parents[2] / "build/e2e/logs"))
NAMESPACES = ("net", "mnt", "pid", "uts", "ipc")
SETTINGS = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "fs/inotify/max_user_instances")
FOLDERS = (
    "/run",
    "/var/lib",
    "/var/log",
    "/var/tmp",
    "/etc",
    "/opt",
    "/sys/fs/bpf",
    "/run/netns",
    "/etc/cni",
    "/var/lib/cni",
)


def machine() -> dict[str, set[str]]:
    """Returns everything that a cluster could leave on a machine, by kind."""
    processes = [folder for folder in Path("/proc").iterdir() if folder.name.isdigit() and lives(folder)]
    return {
        "links": set(lines("ip", "-o", "-br", "link")),
        "routes": set(lines("ip", "route")),
        "packet rules": set(lines("nft", "list", "ruleset")),
        "mounts": {line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()},
        "namespaces": {link for process in processes for name in NAMESPACES if (link := target(process / "ns" / name))},
        "processes": {name for process in processes if (name := of_the_cluster(process))},
        "cgroups": {str(folder) for folder in Path("/sys/fs/cgroup").glob("*/*") if folder.is_dir()},
        "files": {str(file) for folder in FOLDERS if Path(folder).is_dir() for file in Path(folder).iterdir()},
        "settings": {f"{name} = {(Path('/proc/sys') / name).read_text()}" for name in SETTINGS},
    }


def lines(*command: str) -> list[str]:
    """Returns the output of a command, without the state of links, which changes by itself."""
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line.split("<")[0].replace("UNKNOWN", "UP") for line in out.splitlines()]


def lives(process: Path) -> bool:
    """Whether a process is alive, and not a zombie of a removed namespace that init has not yet reaped."""
    with contextlib.suppress(OSError):
        return (process / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def target(link: Path) -> str | None:
    with contextlib.suppress(OSError):
        return str(link.readlink())
    return None


def of_the_cluster(process: Path) -> str | None:
    """Returns the command line of a process of the cluster or of a container."""
    with contextlib.suppress(OSError):
        command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        if any(
            word in command for word in ("kommuna-e2e", "containerd", "kubelet", "kube-", "cilium-agent", "etcd --")
        ):
            return command
    return None


def left(before: dict[str, set[str]]) -> dict[str, set[str]]:
    """Returns what the machine has now and did not have before."""
    after = machine()
    return {kind: after[kind] - had for kind, had in before.items() if after[kind] - had}


@pytest.fixture(scope="module")
def installed(state: Path):
    """Installs the Debian packages and the programs, which `down` does not remove."""
    if (state / "kubeconfig").exists():
        pytest.skip("the cluster is up; `down` first")
    subprocess.run([HERE / "up"], check=True, timeout=3600)
    subprocess.run([HERE / "down"], check=True, timeout=120)


@pytest.fixture
def before(installed):
    yield machine()
    subprocess.run([HERE / "down"], check=True, timeout=120)


def test_down_removes_everything(before, state):
    subprocess.run([HERE / "up"], check=True, timeout=3600)
    Cluster(environment(state)).start(busybox("guest"))
    assert left(before)
    subprocess.run([HERE / "down"], check=True, timeout=120)
    assert left(before) == {}
    subprocess.run([HERE / "down"], check=True, timeout=120)  # nothing to do


@pytest.mark.parametrize("last", ["node", "etcd", "cilium"])
def test_down_removes_everything_of_a_killed_up(before, last):
    log = LOGS / "node0" / f"{last}.log"
    log.unlink(missing_ok=True)
    with subprocess.Popen([HERE / "up"], start_new_session=True) as up:
        assert eventually(log.exists, seconds=90)
        os.killpg(up.pid, signal.SIGKILL)
    assert left(before)
    subprocess.run([HERE / "down"], check=True, timeout=120)
    assert left(before) == {}


def test_up_fixes_a_cluster_whose_control_plane_has_crashed(before, state):
    subprocess.run([HERE / "up"], check=True, timeout=3600)
    subprocess.run([HERE / "enter", "node0", "bash", "-c", "kill -KILL $(pidof kube-apiserver etcd)"], check=True)
    subprocess.run([HERE / "up"], check=True, timeout=300)
    Cluster(environment(state)).start(busybox("guest"))
