"""Utilization is real: the process's own use, against its container's limits."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from imageflow_common.labels import BoundedLabel
from imageflow_common.machine import cpu_limit, memory_limit
from imageflow_common.utilization import CpuShare, resident_bytes


@pytest.mark.parametrize(
    ("cpu_max", "cores"), [("150000 100000", 1.5), ("max 100000", len(os.sched_getaffinity(0))), ("", None)]
)
def test_the_cores_are_the_containers_quota_else_those_of_the_process(
    tmp_path: Path, cpu_max: str, cores: float | None
) -> None:
    (tmp_path / "cpu.max").write_text(cpu_max)
    assert cpu_limit(tmp_path) == (cores or len(os.sched_getaffinity(0)))


def test_the_memory_is_the_containers_limit_else_the_machines(tmp_path: Path) -> None:
    machine = memory_limit(tmp_path)
    (tmp_path / "memory.max").write_text("max\n")
    assert memory_limit(tmp_path) == machine > 2**28
    (tmp_path / "memory.max").write_text("268435456\n")
    assert memory_limit(tmp_path) == 2**28


def test_the_limits_of_the_first_version_of_cgroups_count_too(tmp_path: Path) -> None:
    for name, text in {
        "cpu/cpu.cfs_quota_us": "70000\n",
        "cpu/cpu.cfs_period_us": "100000\n",
        "memory/memory.limit_in_bytes": "805306368\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    assert (cpu_limit(tmp_path), memory_limit(tmp_path)) == (0.7, 768 * 2**20)

    (tmp_path / "cpu/cpu.cfs_quota_us").write_text("-1\n")
    (tmp_path / "memory/memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert cpu_limit(tmp_path) == len(os.sched_getaffinity(0))
    assert memory_limit(tmp_path) < 2**62


def test_the_share_of_cpu_is_of_the_time_since_it_was_last_asked() -> None:
    times, clock = iter([10.0, 11.0, 11.0]), iter([100.0, 102.0, 104.0])
    share = CpuShare(2.0, used=lambda: next(times), now=lambda: next(clock))
    assert share.since_last_asked() == pytest.approx(0.25)
    assert share.since_last_asked() == 0.0


def test_resident_memory_grows_with_what_is_held() -> None:
    before = resident_bytes()
    held = bytearray(os.urandom(32 * 2**20))
    assert resident_bytes() - before > len(held) // 2


def test_ten_thousand_values_make_no_more_labels_than_were_allowed() -> None:
    bounded = BoundedLabel(200)
    assert len({bounded(f"pipeline-{number}") for number in range(10_000)}) == 201
    assert (bounded("pipeline-0"), bounded("pipeline-9999")) == ("pipeline-0", "other")
