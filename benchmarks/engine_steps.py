"""What a step costs beside its own work: alone, and when as many run as the cores can do."""

from __future__ import annotations

import asyncio
import resource
from dataclasses import dataclass
from itertools import pairwise
from time import perf_counter
from typing import Final

import grpc

from imageflow_orchestrator.engine import Requested, new_execution
from imageflow_orchestrator.planned import Plan
from imageflow_orchestrator.run import OutputFormat

from .engine_site import Served, Site, chain, image, served
from .resources import cpu_seconds

_LENGTH = 20
_WARM_UP_RUNS = 10
_AT_ONCE: Final = 8
_PNG = OutputFormat("image/png")


@dataclass(frozen=True, slots=True)
class Rate:
    """What was done in how long, and the processor time that the engine and the component used for it."""

    steps: int
    seconds: float
    engine_cpu_seconds: float
    component_cpu_seconds: float

    @property
    def per_second(self) -> float:
        return self.steps / self.seconds

    def engine_cpu_ms(self) -> float:
        """For each step."""
        return self.engine_cpu_seconds / self.steps * 1e3

    def component_cpu_ms(self) -> float:
        """For each step."""
        return self.component_cpu_seconds / self.steps * 1e3


async def step_times(site: Site, steps: int) -> tuple[list[float], Rate]:
    """Milliseconds from each step's beginning to the next one's, one at a time; the first of a run, which decodes, and
    the last, which encodes, are left out."""
    plan = site.orchestrator.executions._planner.given(chain(_LENGTH), {})
    for _ in range(_WARM_UP_RUNS):
        await _run(site, plan)
    times: list[float] = []
    clock = _Clock(site.component)
    runs = 0
    while len(times) < steps:
        begun = await _run(site, plan)
        times += [(after - before) * 1e3 for before, after in pairwise(begun[1:])]
        runs += 1
    return times, clock.rate(runs * _LENGTH)


async def sustained(site: Site, seconds: float) -> Rate:
    """Steps a second with several runs under way."""
    plan = site.orchestrator.executions._planner.given(chain(_LENGTH), {})
    end = perf_counter() + seconds
    clock = _Clock(site.component)

    async def go_on() -> int:
        runs = 0
        while perf_counter() < end:
            await _run(site, plan)
            runs += 1
        return runs

    return clock.rate(_LENGTH * sum(await asyncio.gather(*(go_on() for _ in range(_AT_ONCE)))))


async def echo_times(calls: int) -> list[float]:
    """Milliseconds of each bare call with the same bytes, one at a time, after as many as warm up."""
    data, times = image(), list[float]()
    with served("echo") as echo:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{echo.port}") as channel:
            call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/benchmark.Echo/Echo")
            for number in range(_WARM_UP_RUNS * _LENGTH + calls):
                started = perf_counter()
                await call(data, timeout=10)
                if number >= _WARM_UP_RUNS * _LENGTH:
                    times.append((perf_counter() - started) * 1e3)
    return times


async def _run(site: Site, plan: Plan) -> list[float]:
    """When each step began."""
    begun: list[float] = []
    result, _ = await site.orchestrator.engine.perform(
        plan, image(), new_execution(plan, Requested()), _PNG, begun=lambda _step: begun.append(perf_counter())
    )
    assert result.outcome.status == "COMPLETED", result.outcome.failure
    return begun


class _Clock:
    """Time, and processor time of this process and the component's, since it was made."""

    def __init__(self, component: Served) -> None:
        self._pids = {"component": component.pid}
        self._before = cpu_seconds(self._pids)
        self._own = _own_cpu_seconds()
        self._start = perf_counter()

    def rate(self, steps: int) -> Rate:
        seconds = perf_counter() - self._start
        used = cpu_seconds(self._pids)["component"] - self._before["component"]
        return Rate(steps, seconds, _own_cpu_seconds() - self._own, used)


def _own_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
