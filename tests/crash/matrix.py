"""Kills the orchestrator, over and over, and starts it again; then looks whether anything came of that."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from time import monotonic

import grpc

from imageflow.v1.execution_pb2 import Execution
from imageflow.v1.record_pb2 import ExecutionRecord
from imageflow_common.errors import NotFound
from imageflow_common.keys import PENDING_PREFIX, parse_pending_key
from imageflow_orchestrator.records import Records, has_ended

from . import pictures
from .points import OUTSIDE, POINTS
from .shapes import INPUT, SHAPES
from .stage import Life, Stage, eventually, staged
from .verdict import Expected, calls_of, faults_found

_FEEDERS = 2
_LATEST_KILL_SECONDS = 0.6
_HIGHEST_COUNT = 3
_RANDOM = "at random"
_HOUR_SECONDS = 3600


@dataclass(frozen=True, slots=True)
class Kill:
    """`inside`: an execution that had been accepted had not ended. `recovery_seconds`: until each of those was
    worked on again."""

    point: str
    inside: bool
    recovery_seconds: tuple[float, ...]


@dataclass(slots=True)
class Tally:
    """What a matrix came to."""

    seed: int
    kills: list[Kill] = field(default_factory=list)
    executions: int = 0
    repeated_calls: int = 0
    told_to_fail: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def share_inside(self) -> float:
        return sum(kill.inside for kill in self.kills) / max(1, len(self.kills))


@dataclass(frozen=True, slots=True)
class _Died:
    moment: float
    point: str
    pending: frozenset[str]
    inside: bool


class Matrix:
    """One data directory, so many kills, one verdict."""

    def __init__(self, stage: Stage, references: Mapping[str, str], seed: int) -> None:
        self._stage = stage
        self._references = references
        self._random = Random(seed)
        self._numbers = count()
        self._expected: dict[str, Expected] = {}
        self._unanswered: dict[str, Expected] = {}
        self._in_work: set[str] = set()
        self._deaths: list[_Died] = []
        self.tally = Tally(seed)

    async def run(self, points: list[str]) -> Tally:
        async with self._stage.live() as life:
            await life.upload(INPUT, pictures.coins())
        for point in points:
            await self._live_and_die(point)
        await self._live_on()
        return self.tally

    async def _live_and_die(self, point: str) -> None:
        named = "" if point == _RANDOM else point
        before = len(self._stage.entries())
        async with self._stage.live(point=named, count=self._random.randint(1, _HIGHEST_COUNT)) as life:
            feeders = [asyncio.create_task(self._feed(life)) for _ in range(_FEEDERS)]
            if not named:
                await eventually(lambda: len(self._stage.entries()) > before)
                await asyncio.sleep(self._random.uniform(0, _LATEST_KILL_SECONDS))  # the kill's moment is the point
                await eventually(lambda: self._works(life))
                life.process.send(signal.SIGKILL)
            assert await life.process.ended() == -signal.SIGKILL
            moment = monotonic()
            for feeder in feeders:
                await feeder
        self._in_work.clear()
        pending = await self._pending()
        killed = [entry.execution_id for entry in self._stage.entries()[before:] if entry.what == "killed"]
        inside = killed[0] in pending and point not in OUTSIDE if killed else bool(pending)
        self._deaths.append(_Died(moment, point, frozenset(pending), inside))

    async def _works(self, life: Life) -> bool:
        """Whether something that was accepted has not ended."""
        return any([not has_ended(await life.get(name)) for name in list(self._in_work)])

    async def _feed(self, life: Life) -> None:
        """One execution after the other, until the orchestrator is no more."""
        try:
            while True:
                asked = self._next()
                self._unanswered[asked.execution_id] = asked
                await self._ask(life, asked)
                self._in_work.add(asked.execution_id)
                await life.until_ended(asked.execution_id)
                self._in_work.discard(asked.execution_id)
        except grpc.aio.AioRpcError as exc:
            if exc.code() is not grpc.StatusCode.UNAVAILABLE:
                raise

    async def _ask(self, life: Life, asked: Expected) -> None:
        await life.create(asked.shape.request(asked.execution_id))
        self._unanswered.pop(asked.execution_id, None)
        self._expected[asked.execution_id] = asked

    def _next(self) -> Expected:
        """One that is not answered, as an impatient caller would ask again; else a new one."""
        if self._unanswered and self._random.random() < 0.5:
            return next(iter(self._unanswered.values()))
        shape = self._random.choice(SHAPES)
        return Expected(f"{shape.name}-{next(self._numbers)}", shape, self._references[shape.name])

    async def _pending(self) -> set[str]:
        """Accepted, and not done with."""
        found: set[str] = set()
        async with self._stage.reading() as store:
            records = Records(store)
            page = await store.list(PENDING_PREFIX)
            for entry in map(parse_pending_key, (item.key for item in page.items)):
                try:
                    held = await records.hold(entry.namespace, entry.execution_id)
                except NotFound:
                    continue
                if held.record.kind is not ExecutionRecord.SYNCHRONOUS:
                    found.add(entry.execution_id)
        return found

    async def _live_on(self) -> None:
        """Without a crash, until all have ended; an hour later also what was never accepted is swept away."""
        async with self._stage.live() as life:
            for asked in list(self._unanswered.values()):
                await self._ask(life, asked)
            for execution_id in self._expected:
                await life.until_ended(execution_id)
        self._stage.clock.write_text(str(_HOUR_SECONDS))
        async with self._stage.live() as life:
            await eventually(self._nothing_pending)
            ended = {each.execution_id: each for each in await life.list_all() if has_ended(each)}
            self.tally.faults = await faults_found(self._stage, list(self._expected.values()), ended)
        self._stage.clock.write_text("0")
        self._count(ended)

    async def _nothing_pending(self) -> bool:
        async with self._stage.reading() as store:
            return not (await store.list(PENDING_PREFIX, page_size=1)).items

    def _count(self, ended: Mapping[str, Execution]) -> None:
        entries = self._stage.entries()
        self.tally.executions = len(ended)
        self.tally.repeated_calls = sum(times - 1 for times in calls_of(entries).values())
        self.tally.told_to_fail = sum(e.what == "call" and e.words[0] == "flaky" and e.words[1] != "1" for e in entries)
        for died in self._deaths:
            after = [entry for entry in entries if entry.time > died.moment]
            firsts = (next((e.time for e in after if e.execution_id == name), None) for name in died.pending)
            recovery = tuple(first - died.moment for first in firsts if first is not None)
            self.tally.kills.append(Kill(died.point, died.inside, recovery))


def points_for(seed: int, kills: int) -> list[str]:
    """Half of them named, all points in turn from round to round; half of them at random moments."""
    named, half = _in_turn(), kills // 2
    chosen = [named[(seed * half + number) % len(named)] for number in range(half)] + [_RANDOM] * (kills - half)
    Random(seed).shuffle(chosen)
    return chosen


def _in_turn() -> list[str]:
    """All points, those in running work twice, with the others evenly among them."""
    inside, outside = [point for point in POINTS if point not in OUTSIDE] * 2, sorted(OUTSIDE)
    for points in (inside, outside):
        Random(0).shuffle(points)
    every = -(-(len(inside) + len(outside)) // len(outside))
    return [(outside if number % every == 0 else inside).pop() for number in range(len(inside) + len(outside))]


async def crash_matrix(folder: Path, references: Mapping[str, str], *, seed: int, kills: int) -> Tally:
    """Runs one matrix with components of its own."""
    async with staged(folder, "resize", "filter", "detect") as stage:
        return await Matrix(stage, references, seed).run(points_for(seed, kills))
