"""The servers of observability beside the system, from start to end."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

from imageflow_cli.child import Program
from imageflow_cli.logsink import LogSink
from imageflow_cli.ports import free_ports
from imageflow_cli.readiness import wait_http_ok
from imageflow_cli.supervisor import GaveUp, Supervisor

from . import servers
from .servers import HOST, Ports, Run

START_SECONDS: Final = 60.0
_LOGS: Final = "logs"
_STATE: Final = "state.json"


class AlreadyRunning(Exception):
    """Another `observe up` has the folder."""


class NotReady(Exception):
    """Servers that did not answer in time, or did not stay alive."""


@dataclass(frozen=True, slots=True)
class Site:
    """What runs. `exports` is the environment with which `imageflow up`, `trace`, `logs` and `analyze` find it;
    `logs` is the folder whose `*.jsonl` the collector reads."""

    urls: Mapping[str, str]
    exports: Mapping[str, str]
    logs: Path


@asynccontextmanager
async def running(programs: Mapping[str, str], folder: Path, sink: LogSink) -> AsyncIterator[Site]:
    """Starts them and waits until each answers; ends them afterwards. Raises AlreadyRunning, NotReady, OSError."""
    with _claimed(folder) as place:
        (place / _STATE).write_text(json.dumps({"pid": os.getpid()}))
        ports = Ports(*free_ports(len(fields(Ports))))
        runs = {name: _run(name, program, place, ports) for name, program in programs.items()}
        async with Supervisor(sink) as supervisor:
            supervisor.start(
                Program(name, tuple(run.command), environment=run.environment, directory=place / name)
                for name, run in runs.items()
            )
            try:
                await _wait_ready({name: _ready_url(name, ports) for name in runs}, supervisor)
                yield _site(runs, ports, place)
            finally:
                await supervisor.stop(list(runs))


def stop(folder: Path) -> bool:
    """Asks the `observe up` of this folder to end. Answers whether there was one."""
    try:
        with _claimed(folder):
            return False
    except AlreadyRunning:
        os.kill(int(json.loads((folder / _STATE).read_bytes())["pid"]), signal.SIGTERM)
        return True


@contextmanager
def _claimed(folder: Path) -> Iterator[Path]:
    """The folder, made where there is none, for one process at a time; whose it is stands in `state.json`."""
    place = folder.resolve()
    place.mkdir(parents=True, exist_ok=True)
    with (place / "up.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise AlreadyRunning(f"{folder} belongs to another `imageflow observe up`") from exc
        yield place


def _run(name: str, program: str, place: Path, ports: Ports) -> Run:
    folder = place / name
    folder.mkdir(exist_ok=True)
    (place / _LOGS).mkdir(exist_ok=True)
    made: Mapping[str, Callable[[], Run]] = {
        "otelcol": lambda: servers.collector(program, folder, ports, logs=place / _LOGS),
        "prometheus": lambda: servers.prometheus(program, folder, ports),
        "zipkin": lambda: servers.zipkin("java", Path(program), ports),
        "loki": lambda: servers.loki(program, folder, ports),
    }
    return made[name]()


def _ready_url(name: str, ports: Ports) -> str:
    places = {
        "otelcol": f"{ports.collector_health}/",
        "prometheus": f"{ports.prometheus}/-/ready",
        "zipkin": f"{ports.zipkin}/health",
        "loki": f"{ports.loki}/ready",
    }
    return f"http://{HOST}:{places[name]}"


async def _wait_ready(urls: Mapping[str, str], supervisor: Supervisor) -> None:
    waiting = set(urls)

    async def wait(name: str, url: str) -> None:
        await wait_http_ok(url)
        waiting.discard(name)

    async def fail() -> None:
        gave_up: GaveUp = await supervisor.given_up()
        raise NotReady(str(gave_up)) from gave_up

    async def wait_all() -> None:
        async with asyncio.TaskGroup() as group:
            for name, url in urls.items():
                group.create_task(wait(name, url))

    watching = asyncio.create_task(fail())
    ready = asyncio.create_task(wait_all())
    try:
        async with asyncio.timeout(START_SECONDS):
            await asyncio.wait({watching, ready}, return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            watching.result()
    except TimeoutError as exc:
        raise NotReady(f"not ready after {START_SECONDS:.0f} s: {', '.join(sorted(waiting))}") from exc
    finally:
        watching.cancel()
        ready.cancel()
        await asyncio.gather(watching, ready, return_exceptions=True)


def _site(runs: Mapping[str, Run], ports: Ports, place: Path) -> Site:
    urls = {
        "otelcol": f"http://{HOST}:{ports.otlp}",
        "prometheus": f"http://{HOST}:{ports.prometheus}",
        "zipkin": f"http://{HOST}:{ports.zipkin}",
        "loki": f"http://{HOST}:{ports.loki}",
    }
    names = {
        "otelcol": "OTEL_EXPORTER_OTLP_ENDPOINT",
        "prometheus": "IMAGEFLOW_PROMETHEUS_URL",
        "zipkin": "IMAGEFLOW_ZIPKIN_URL",
        "loki": "IMAGEFLOW_LOKI_URL",
    }
    exports = {names[name]: urls[name] for name in runs}
    if "otelcol" in runs:
        exports["IMAGEFLOW_GATEWAY_STATUS_PORT"] = str(ports.gateway_status)
    elif "zipkin" in runs:
        exports["OTEL_EXPORTER_ZIPKIN_ENDPOINT"] = f"{urls['zipkin']}/api/v2/spans"
    return Site({name: urls[name] for name in runs}, exports, place / _LOGS)
