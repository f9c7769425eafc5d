"""How much of its CPU and memory a process uses, against its container's limits, else the machine's."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from time import monotonic, process_time

from opentelemetry import metrics

from .machine import cpu_limit, memory_limit, read_text


def observe_process(meter: metrics.Meter, component: str) -> None:
    """Reports `imageflow.resource.utilization` for `cpu` and `memory` each time that metrics are collected."""
    cpu, memory = CpuShare(cpu_limit()), memory_limit()

    def shares(_options: metrics.CallbackOptions) -> Iterable[metrics.Observation]:
        found = {"cpu": cpu.since_last_asked(), "memory": resident_bytes() / memory}
        return [
            metrics.Observation(share, {"component": component, "resource_type": kind}) for kind, share in found.items()
        ]

    utilization_gauge(meter, shares)


def utilization_gauge(
    meter: metrics.Meter, observe: Callable[[metrics.CallbackOptions], Iterable[metrics.Observation]]
) -> None:
    """Adds a source of `imageflow.resource.utilization`."""
    meter.create_observable_gauge("imageflow.resource.utilization", [observe], description="Share of a resource in use")


class CpuShare:
    """The share of `cores` that this process has used since it was last asked."""

    def __init__(
        self, cores: float, *, used: Callable[[], float] = process_time, now: Callable[[], float] = monotonic
    ) -> None:
        self._cores, self._used, self._now = cores, used, now
        self._last_used, self._last_asked = used(), now()

    def since_last_asked(self) -> float:
        used, now = self._used(), self._now()
        elapsed = now - self._last_asked
        share = (used - self._last_used) / (elapsed * self._cores) if elapsed > 0 else 0.0
        self._last_used, self._last_asked = used, now
        return max(0.0, share)


def resident_bytes() -> int:
    """Memory of this process that is in use; 0 where `/proc` has none to tell."""
    pages = read_text(Path("/proc/self/statm")).split()
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if len(pages) > 1 else 0
