"""What processes use: time of processors, and memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import psutil


def cpu_seconds(pids: Mapping[str, int]) -> dict[str, float]:
    """User and system time of each process so far, all of its threads, to 10 ms."""
    times = {name: psutil.Process(pid).cpu_times() for name, pid in pids.items()}
    return {name: each.user + each.system for name, each in times.items()}


def spent(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Seconds of each process between two readings."""
    return {name: after[name] - before[name] for name in after}


def pss_bytes(pids: Mapping[str, int]) -> dict[str, int]:
    """Proportional set size: pages that processes share are divided among them."""
    return {name: int(psutil.Process(pid).memory_full_info().pss) for name, pid in pids.items()}


def folder_bytes(folder: Path) -> int:
    """The size of all files in a folder in memory."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
