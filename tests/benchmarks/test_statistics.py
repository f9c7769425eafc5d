"""The benchmark's arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.results import latency
from benchmarks.samples import PARTS, Load, Sample, in_turn, mean_parts, percentile, together
from benchmarks.server_timing import read_parts

HEADER = (
    "total;dur=20.00, overhead;dur=0.50, queue;dur=1.00, plan;dur=0.25, "
    'resize;dur=10.00;desc="queue=0.10 transport=2.00 decode=5.00 compute=2.80 encode=0.00 retry=0.00", '
    'detect;dur=8.00;desc="queue=0.00 transport=1.00 decode=0.00 compute=7.00 encode=0.00 retry=0.00", '
    'filter;dur=6.00;desc="queue=0.00 transport=1.50 decode=0.00 compute=2.50 encode=1.75 retry=0.00"'
)


@pytest.mark.parametrize("percent", [0, 5, 50, 95, 100])
@pytest.mark.parametrize("count", [1, 2, 3, 20, 101])
def test_percentiles_are_numpys(count: int, percent: float) -> None:
    values = np.random.default_rng(count).normal(size=count)
    assert percentile(list(values), percent) == pytest.approx(np.percentile(values, percent))


def test_there_is_no_percentile_of_nothing() -> None:
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 50)


def test_the_parts_of_a_request_add_up_to_what_its_caller_waited() -> None:
    parts = read_parts(HEADER, 22.5)
    assert set(parts) == set(PARTS)
    assert sum(parts.values()) == pytest.approx(22.5)


def test_what_ran_at_the_same_time_is_taken_off() -> None:
    parts = read_parts(HEADER, 22.5)
    expected = {"queue": 1.1, "transport": 4.5, "decode": 5.0, "compute": 12.3, "encode": 1.75, "hand-over": 0.35}
    assert {name: parts[name] for name in expected} == pytest.approx(expected)
    assert parts["gateway + client"] == pytest.approx(2.5)
    assert parts["overlap"] == pytest.approx(-5.75)  # 24 ms of steps in 18.25 ms


def test_a_part_that_a_request_lacks_counts_as_nothing() -> None:
    means = mean_parts([Sample(3.0, {"decode": 2.0}), Sample(3.0, {"encode": 1.0})])
    assert (means["decode"], means["encode"], means["plan"]) == (1.0, 0.5, 0.0)


def test_latency_is_over_all_rounds_and_tells_each() -> None:
    rounds = [tuple(Sample(wall, {}) for wall in walls) for walls in ((1.0, 2.0, 3.0), (10.0, 20.0, 30.0))]
    times = latency(rounds)
    assert (times.requests, times.p50_ms, times.mean_ms, times.p50_by_round) == (6, 6.5, 11.0, (2.0, 20.0))


def test_rates_of_processes_at_the_same_time_add_up() -> None:
    both = together([Load(10, 1.0, {"429": 1}), Load(20, 4.0, {"429": 2, "500": 1})])
    assert both.completed == 30
    assert both.per_second == pytest.approx(15.0)
    assert both.errors == {"429": 3, "500": 1}


def test_runs_after_one_another_are_as_one_long_run() -> None:
    assert in_turn([Load(10, 1.0), Load(20, 4.0)]).per_second == pytest.approx(6.0)
