"""`imageflow up`: the real topology on this machine, from start to orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Final, TypeVar

from .child import Program
from .datadir import DataDirectory, RunningProcess, UpState, claim, shared_memory
from .drain import NotDrained, drain_gateway
from .logsink import LogSink
from .ports import PortTaken, claimed, is_free
from .readiness import wait_http_ok, wait_serving
from .registry_file import load_registry
from .supervisor import GaveUp, Supervisor
from .topology import GATEWAY, HOST, ORCHESTRATOR, Places, Topology, UpOptions, plan_topology

T = TypeVar("T")

START_SECONDS: Final = 60.0
DRAIN_SECONDS: Final = 10.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class NotReady(Exception):
    """Services that did not answer in time."""


@dataclass(slots=True)
class Running:
    """A topology that runs, with what is known of it."""

    topology: Topology
    places: Places
    supervisor: Supervisor
    directory: DataDirectory
    ready: bool = False

    def state(self) -> UpState:
        pids = self.supervisor.pids
        processes = tuple(RunningProcess(p.name, pids.get(p.name, 0), p.address) for p in self.topology.programs)
        return UpState(self.topology.url, os.getpid(), self.ready, str(self.places.memory), processes)

    def write_state(self) -> None:
        with contextlib.suppress(OSError):  # a full disk does not end what runs
            self.directory.write_state(self.state())

    def end_at_once(self) -> None:
        """Kills every process and removes every file of this run."""
        self.supervisor.kill()
        for folder in (self.places.memory, self.places.run):
            shutil.rmtree(folder, ignore_errors=True)


Ready = Callable[[UpState, float], Coroutine[None, None, None]]
"""Is told what runs, and after how many seconds it was ready; when it returns, the topology is ended."""


async def run_topology(
    options: UpOptions, *, data: Path, registry: Path | None, sink: LogSink, on_ready: Ready
) -> None:
    """Starts everything, waits until all of it answers, awaits `on_ready`, and ends everything in order. A signal
    (Ctrl-C, SIGTERM) ends it sooner; a second one at once, and this process with status 130.

    Raises PortTaken, DataInUse, DataUnusable, NotReady, GaveUp, InvalidRegistry, UnknownReplicas, EnvoyNotFoundError,
    OSError.
    """
    with _stop_signals() as stop, ExitStack() as stack:
        if options.port:
            stack.enter_context(claimed(HOST, options.port))
        directory = stack.enter_context(claim(data))
        places = Places(directory.run, directory.store, stack.enter_context(shared_memory()))
        topology = plan_topology(options, load_registry(registry), places)
        _write_files(topology, places)
        async with Supervisor(sink, on_change=lambda: running.write_state()) as supervisor:
            running = Running(topology, places, supervisor, directory)
            stop.at_once = running.end_at_once
            try:
                await _serve(running, stop.first, on_ready)
            except GaveUp as exc:
                if options.port and GATEWAY not in supervisor.pids and not is_free(HOST, options.port):
                    raise PortTaken(options.port) from exc  # by one who came between our look and the gateway's start
                raise
            finally:
                sink.say("stopping", "stopping: what is in flight may finish (Ctrl-C again to end at once)")
                await _stop(running, sink)


async def _serve(running: Running, stop: asyncio.Event, on_ready: Ready) -> None:
    started = monotonic()
    running.supervisor.start(running.topology.programs)
    if await _unless(stop, running.supervisor, _wait_ready(running.topology)):
        running.ready = True
        running.write_state()
        await _unless(stop, running.supervisor, on_ready(running.state(), monotonic() - started))


def _write_files(topology: Topology, places: Places) -> None:
    places.shared.mkdir()
    places.registry.write_text(topology.registry, encoding="utf-8")
    places.gateway_config.write_text(topology.gateway_config, encoding="utf-8")


@dataclass(slots=True)
class _StopSignals:
    """`first` is set by the first signal; `at_once` is called by a second one, and then this process ends."""

    first: asyncio.Event
    at_once: Callable[[], None]

    def receive(self) -> None:
        if self.first.is_set():
            self.at_once()
            os._exit(130)
        self.first.set()


@contextlib.contextmanager
def _stop_signals() -> Iterator[_StopSignals]:
    """Signals that are ignored, as under nohup, stay so."""
    loop = asyncio.get_running_loop()
    signals = _StopSignals(asyncio.Event(), lambda: None)
    numbers = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    for number in numbers:
        loop.add_signal_handler(number, signals.receive)
    try:
        yield signals
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _unless(stop: asyncio.Event, supervisor: Supervisor, work: Coroutine[None, None, None]) -> bool:
    """Does the work unless a signal comes first. Answers whether it was done. Raises GaveUp when a program does not
    stay alive, and what the work raises."""
    async with _owned(work) as doing, _owned(stop.wait()) as stopping, _owned(supervisor.given_up()) as failing:
        await asyncio.wait({doing, stopping, failing}, return_when=asyncio.FIRST_COMPLETED)
        if doing.done():
            doing.result()
        elif failing.done():
            gave_up: GaveUp = failing.result()
            raise gave_up
        return doing.done() and not stop.is_set()


@contextlib.asynccontextmanager
async def _owned(work: Coroutine[None, None, T]) -> AsyncIterator[asyncio.Task[T]]:
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _wait_ready(topology: Topology) -> None:
    """Each service by its own health, then all of them through the gateway."""
    waiting = {program.name for program in topology.services}

    async def wait(program: Program) -> None:
        await wait_serving(program.address)
        waiting.discard(program.name)

    try:
        async with asyncio.timeout(START_SECONDS):
            async with asyncio.TaskGroup() as group:
                for program in topology.services:
                    group.create_task(wait(program))
            waiting.add(f"{topology.url}/readyz")
            await wait_http_ok(f"{topology.url}/readyz")
    except TimeoutError as exc:
        raise NotReady(f"not ready after {START_SECONDS:.0f} s: {', '.join(sorted(waiting))}") from exc


async def _stop(running: Running, sink: LogSink) -> None:
    """What sends requests ends before what answers them."""
    try:
        await drain_gateway(running.places.admin_socket, within_seconds=DRAIN_SECONDS)
    except NotDrained as exc:
        sink.say("gateway.not_drained", str(exc))
    await running.supervisor.stop([GATEWAY])
    await running.supervisor.stop([ORCHESTRATOR])
    await running.supervisor.stop([program.name for program in running.topology.components])
