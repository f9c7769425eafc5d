"""Keeps programs running: starts what died again, later each time, and gives up on what dies again and again."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Final

from .child import Child, Program, describe_end
from .launch import CANNOT_START
from .logsink import LogSink

EX_CONFIG: Final = 78
"""The status of a service whose settings are wrong: starting it again cannot help."""


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """A process that lived shorter than `quick_seconds` died quickly; after `attempts` quick deaths in a row its
    program is given up."""

    initial_seconds: float = 0.25
    factor: float = 2.0
    longest_seconds: float = 10.0
    quick_seconds: float = 10.0
    attempts: int = 5

    def delay(self, quick_deaths: int) -> float:
        """Seconds to wait before the start after this many quick deaths in a row."""
        return min(self.initial_seconds * self.factor ** max(quick_deaths - 1, 0), self.longest_seconds)


class GaveUp(Exception):
    """A program that does not stay alive. The text says which and how it ended."""


class Supervisor:
    """The children of one `imageflow up`. As an async context manager it leaves none of them behind."""

    def __init__(
        self,
        sink: LogSink,
        policy: RestartPolicy | None = None,
        *,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        self._sink = sink
        self._policy = policy or RestartPolicy()
        self._on_change = on_change
        self._programs: dict[str, Program] = {}
        self._children: dict[str, Child] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._stopping: set[str] = set()
        self._given_up: asyncio.Future[GaveUp] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Supervisor:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.kill()
        for name, keeper in self._keepers.items():
            if name not in self._children:  # it starts, or waits to be started again
                keeper.cancel()
        await asyncio.gather(*self._keepers.values(), return_exceptions=True)

    def start(self, programs: Iterable[Program]) -> None:
        """Starts them all at once; names must differ."""
        for program in programs:
            assert program.name not in self._programs, f"two programs are named {program.name}"
            self._programs[program.name] = program
            self._keepers[program.name] = asyncio.create_task(self._keep(program))

    @property
    def pids(self) -> dict[str, int]:
        """Of what runs now, by name."""
        return {name: child.pid for name, child in self._children.items()}

    async def given_up(self) -> GaveUp:
        """Waits until a program is given up."""
        return await asyncio.shield(self._given_up)

    async def stop(self, names: Sequence[str]) -> None:
        """Ends these at the same time; each has its program's `stop_seconds`."""
        self._stopping.update(names)
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(self._stop(name))

    def kill(self) -> None:
        """Ends everything at once and starts nothing again."""
        self._stopping.update(self._programs)
        for child in self._children.values():
            child.send(signal.SIGKILL)

    async def _keep(self, program: Program) -> None:
        try:
            why = await self._keep_running(program)
        except OSError as exc:
            why = f"cannot be started: {exc.strerror or exc}"
        if why:
            self._give_up(program, why)

    async def _keep_running(self, program: Program) -> str:
        """Runs it until it is to stop. Answers why it does not stay alive, or nothing."""
        quick_deaths = 0
        while program.name not in self._stopping:
            started = monotonic()
            status = await self._run_once(program)
            if program.name in self._stopping:
                break
            lived = monotonic() - started
            quick_deaths = quick_deaths + 1 if lived < self._policy.quick_seconds else 0
            if status in (EX_CONFIG, CANNOT_START) or quick_deaths >= self._policy.attempts:
                times = f", {quick_deaths} times in a row" if quick_deaths > 1 else ""
                return f"{describe_end(status)}{times}"
            await self._pause(program, status, lived, self._policy.delay(quick_deaths))
        return ""

    async def _run_once(self, program: Program) -> int:
        child = await Child.start(program, self._sink)
        self._children[program.name] = child
        try:
            if program.name in self._stopping:  # it was asked to end while it started
                child.send(signal.SIGTERM)
            self._on_change()
            return await child.wait()
        finally:
            child.send(signal.SIGKILL)
            del self._children[program.name]

    async def _pause(self, program: Program, status: int, lived: float, delay: float) -> None:
        end = describe_end(status)
        self._sink.say(
            "process.died",
            f"{program.name} {end} after {lived:.1f} s; starting it again in {delay:.2g} s",
            process=program.name,
            end=end,
            restart_seconds=delay,
        )
        self._on_change()
        await asyncio.sleep(delay)

    def _give_up(self, program: Program, why: str) -> None:
        text = f"{program.name} {why}: giving up"
        self._sink.say("process.given_up", text, process=program.name, why=why)
        if not self._given_up.done():
            self._given_up.set_result(GaveUp(text))

    async def _stop(self, name: str) -> None:
        keeper = self._keepers[name]
        child = self._children.get(name)
        if child is None:  # it is waiting to be started again
            keeper.cancel()
        elif not await child.stop(self._programs[name].stop_seconds):
            self._sink.say("process.killed", f"{name} did not end in time and was killed", process=name)
        await asyncio.wait([keeper])
