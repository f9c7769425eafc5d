"""What one run of the benchmark came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .environment import Environment
from .samples import Load, Sample, mean, mean_parts, percentile
from .workloads import Variant

CpuMs = Mapping[str, float]
"""Milliseconds of processor time a request, by process."""


@dataclass(frozen=True, slots=True)
class Amount:
    """How much is measured: `rounds` times `requests` one after the other and `load_seconds` for each number in
    flight; `starts` of each topology, the last of them asked `memory_requests` times and left alone for
    `memory_pause_seconds`."""

    rounds: int
    requests: int
    warm_up: int
    load_seconds: float
    starts: int
    memory_requests: int
    memory_pause_seconds: float
    in_flight: tuple[int, ...] = (1, 8, 32)


FULL = Amount(5, 40, 3, 2.0, 3, 100, 10.0)
QUICK = Amount(1, 3, 1, 0.1, 1, 3, 0.1)


@dataclass(frozen=True, slots=True)
class Latency:
    """Of requests one after the other, in milliseconds. `p50_by_round` shows how steady the machine was; the means of
    the parts add up to `mean_ms`."""

    requests: int
    p50_ms: float
    p95_ms: float
    mean_ms: float
    p50_by_round: tuple[float, ...]
    parts_ms: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Measured:
    """One pipeline, run one way. `loads` and `cpu_ms` are by requests in flight (for the functions: processes).
    `threaded`, of the functions alone, is one process on all cores."""

    workload: str
    variant: Variant
    latency: Latency
    detections: int
    output_bytes: int
    loads: Mapping[int, Load]
    threaded: Load | None
    cpu_ms: Mapping[int, CpuMs]

    @property
    def best_per_second(self) -> float:
        return max(load.per_second for load in self.loads.values())

    @property
    def errors(self) -> int:
        return sum(sum(load.errors.values()) for load in self.loads.values())


@dataclass(frozen=True, slots=True)
class Memory:
    """Some time after a number of requests. `shared_bytes` is what lies in shared memory."""

    pss_bytes: Mapping[str, int]
    shared_bytes: int

    @property
    def total_bytes(self) -> int:
        return sum(self.pss_bytes.values()) + self.shared_bytes


@dataclass(frozen=True, slots=True)
class Results:
    environment: Environment
    amount: Amount
    input_bytes: int
    measured: tuple[Measured, ...]
    start_seconds: Mapping[Variant, tuple[float, ...]]
    memory: Mapping[Variant, Memory]

    def of(self, workload: str, variant: Variant) -> Measured:
        """Raises StopIteration where it was not measured."""
        return next(each for each in self.measured if (each.workload, each.variant) == (workload, variant))

    def overhead_ms(self, workload: str, variant: Variant) -> float:
        """What serving adds to the median."""
        return self.of(workload, variant).latency.p50_ms - self.of(workload, "functions").latency.p50_ms

    def overhead_by_round(self, workload: str, variant: Variant) -> tuple[float, ...]:
        served, bare = (self.of(workload, each).latency.p50_by_round for each in (variant, "functions"))
        return tuple(one - other for one, other in zip(served, bare, strict=True))

    def share_of_throughput(self, workload: str, variant: Variant) -> float:
        """The best rate served, by that of the bare functions in a process for each core."""
        return self.of(workload, variant).best_per_second / self.of(workload, "functions").best_per_second

    def share_of_one_process(self, workload: str, variant: Variant) -> float:
        """The best rate served, by that of the bare functions in one process on all cores. Raises ValueError where
        that was not measured."""
        threaded = self.of(workload, "functions").threaded
        if threaded is None or not threaded.completed:
            raise ValueError(f"{workload} was not measured in one process")
        return self.of(workload, variant).best_per_second / threaded.per_second

    @property
    def errors(self) -> int:
        return sum(each.errors for each in self.measured)


def latency(rounds: list[tuple[Sample, ...]]) -> Latency:
    """Raises ValueError without samples."""
    samples = [sample for each in rounds for sample in each]
    walls = [sample.wall_ms for sample in samples]
    return Latency(
        requests=len(walls),
        p50_ms=percentile(walls, 50),
        p95_ms=percentile(walls, 95),
        mean_ms=mean(walls),
        p50_by_round=tuple(percentile([sample.wall_ms for sample in each], 50) for each in rounds),
        parts_ms=mean_parts(samples),
    )
