"""What is measured of requests, and its statistics."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

PARTS: Final = (
    "queue",
    "plan",
    "orchestrator",
    "transport",
    "decode",
    "compute",
    "encode",
    "hand-over",
    "gateway + client",
    "overlap",
)
"""Where a request's time goes, in milliseconds; they add up to the wall time. `overlap` is negative: the time in which
two steps ran at once."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One request: the time that its caller waited, and where it went."""

    wall_ms: float
    parts: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Block:
    """Requests one after the other. `output` and `detections` were the same for each of them."""

    samples: tuple[Sample, ...]
    output: bytes
    detections: int


@dataclass(frozen=True, slots=True)
class Load:
    """Requests with several in flight. `errors` counts what was not answered as it should be, by what it was."""

    completed: int
    seconds: float
    errors: Mapping[str, int] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        return self.completed / self.seconds if self.seconds else 0.0


def percentile(values: Sequence[float], percent: float) -> float:
    """Between the two nearest values, by distance (numpy's default). Raises ValueError without values."""
    if not values:
        raise ValueError("there is no percentile of nothing")
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def mean(values: Sequence[float]) -> float:
    """Raises ValueError without values."""
    if not values:
        raise ValueError("there is no mean of nothing")
    return math.fsum(values) / len(values)


def mean_parts(samples: Sequence[Sample]) -> dict[str, float]:
    """The mean of every part, in the order of PARTS; a part that a request lacks counts as 0."""
    return {part: mean([sample.parts.get(part, 0.0) for sample in samples]) for part in PARTS}


def together(loads: Iterable[Load]) -> Load:
    """Processes that ran at the same time, as one: their rates add up."""
    loads = list(loads)
    completed = sum(load.completed for load in loads)
    rate = math.fsum(load.per_second for load in loads)
    return Load(completed, completed / rate if rate else 0.0, _added(loads))


def in_turn(loads: Iterable[Load]) -> Load:
    """Runs one after the other, as one."""
    loads = list(loads)
    return Load(sum(load.completed for load in loads), math.fsum(load.seconds for load in loads), _added(loads))


def _added(loads: Iterable[Load]) -> dict[str, int]:
    errors: Counter[str] = Counter()
    for load in loads:
        errors.update(load.errors)
    return dict(errors)
