"""What a process may use of its machine: its container's limits, of either version of cgroups, else all there is."""

from __future__ import annotations

import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def cpu_limit(cgroup: Path = CGROUP) -> float:
    """Cores that this process may use: the container's quota, else those that it may run on."""
    quota, _, period = read_text(cgroup / "cpu.max").partition(" ")
    if not period:
        quota, period = (read_text(cgroup / "cpu" / f"cpu.cfs_{name}_us") for name in ("quota", "period"))
    if quota.isdigit() and period.strip().isdigit():
        return int(quota) / int(period)
    return float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)


def memory_limit(cgroup: Path = CGROUP) -> int:
    """Bytes that this process may use: the container's limit, else the machine's memory."""
    limit = read_text(cgroup / "memory.max") or read_text(cgroup / "memory" / "memory.limit_in_bytes")
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(int(limit), machine) if limit.isdigit() else machine


def read_text(file: Path) -> str:
    """Without white space around it; empty where it cannot be read."""
    try:
        return file.read_text().strip()
    except OSError:
        return ""
