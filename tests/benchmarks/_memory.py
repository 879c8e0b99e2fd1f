"""The peak memory of a program that a benchmark runs apart."""

from __future__ import annotations

from pathlib import Path


def peak_mib() -> int:
    """Of this program alone: `ru_maxrss` would count what its parent had when it started it."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) // 1024
