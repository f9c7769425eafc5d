"""Real processes: fake children for the supervisor, and one whole topology for what talks to a server."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from imageflow_cli.child import Program
from imageflow_cli.logsink import LogSink

TREE = Path(__file__).resolve().parents[3]
EXAMPLES = TREE / "examples"


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


async def eventually(condition: Callable[[], object], *, within: float = 10.0) -> None:
    """Polls until the condition holds."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def eventually_now(condition: Callable[[], object], *, within: float = 20.0) -> None:
    """As `eventually`, where there is no event loop."""
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.01)


@dataclass(frozen=True, slots=True)
class Heard:
    """A sink, and what it wrote so far."""

    sink: LogSink
    stream: io.StringIO

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()


@pytest.fixture
async def heard() -> AsyncIterator[Heard]:
    stream = io.StringIO()
    sink = LogSink(stream, "text")
    yield Heard(sink, stream)
    sink.close()


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., Program]:
    """Makes a program of Python source; it finds its folder in the variable `here`."""

    def make(source: str, *, name: str = "fake", stop_seconds: float = 5.0) -> Program:
        file = tmp_path / f"{name}.py"
        file.write_text(f"import os, signal, sys, time\nhere = {str(tmp_path)!r}\n{source}")
        return Program(name, (sys.executable, "-I", "-S", str(file)), stop_seconds=stop_seconds)

    return make


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "imageflow_cli", *arguments]


def environment(**more: str) -> dict[str, str]:
    """Ours without what would steer the command."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith("IMAGEFLOW_")}, **more}


class Up:
    """An `imageflow up` of a test."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.data = folder / "data"
        self._out, self._err = folder / "out.txt", folder / "err.txt"
        with self._out.open("w") as out, self._err.open("w") as err:
            self.process = subprocess.Popen(
                command("up", "--port", "0", "--data", str(self.data), *arguments),
                stdout=out,
                stderr=err,
                cwd=folder,
                env=environment(),
            )

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def err(self) -> str:
        return self._err.read_text()

    @property
    def url(self) -> str:
        found = re.search(r"ready at (http://\S+)", self.out)
        assert found, self.err
        return found.group(1)

    @property
    def pids(self) -> dict[str, int]:
        return {name: int(pid) for name, pid in re.findall(r"^(\S+) +(\d+) +127\.", self.out, re.MULTILINE)}

    def wait_ready(self) -> None:
        eventually_now(lambda: "ready at" in self.out or self.process.poll() is not None)
        assert self.process.poll() is None, self.err

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)

    def close(self) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.end()
            self.process.kill()
            self.process.wait()


@pytest.fixture
def start_up(tmp_path: Path) -> Iterator[Callable[..., Up]]:
    started: list[Up] = []

    def start(*arguments: str) -> Up:
        started.append(Up(tmp_path, *arguments))
        return started[-1]

    yield start
    for up in started:
        up.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A whole topology that is ready."""
    up = Up(tmp_path_factory.mktemp("up"))
    try:
        up.wait_ready()
        yield up
    finally:
        up.close()
