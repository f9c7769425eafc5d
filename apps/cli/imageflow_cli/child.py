"""One process that `imageflow up` started."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from . import launch
from .logsink import LogSink, read_lines

_LAST_WORDS_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Program:
    """What to run: no shell; `environment` is added to ours. `stop_seconds` is how long it has to end after SIGTERM.
    `address` is where it serves, for people."""

    name: str
    command: tuple[str, ...]
    address: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: Path | None = None
    stop_seconds: float = 25.0


class Child:
    """A running process, in a session of its own, so that a terminal's Ctrl-C reaches only us."""

    def __init__(self, process: asyncio.subprocess.Process, reader: asyncio.Task[None]) -> None:
        self._process = process
        self._reader = reader

    @classmethod
    async def start(cls, program: Program, sink: LogSink) -> Child:
        """Must be called on the main thread, whose end would take the child with it."""
        process = await asyncio.create_subprocess_exec(
            *[sys.executable, "-I", "-S", launch.__file__, str(os.getpid()), *program.command],
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, **program.environment},
            cwd=program.directory,
            start_new_session=True,
        )
        assert process.stdout is not None
        return cls(process, asyncio.create_task(read_lines(process.stdout, program.name, sink)))

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> int:
        """Its exit status, or minus the signal that ended it; what it wrote has been passed on by then."""
        status = await self._process.wait()
        self._signal_group(signal.SIGKILL)  # what it started itself
        # A process of its own making may hold the pipe open.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._reader, _LAST_WORDS_SECONDS)
        return status

    def send(self, number: signal.Signals) -> None:
        """Signals the process and those of its own making; nothing happens when it has ended."""
        if self._process.returncode is None:
            self._signal_group(number)

    def _signal_group(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    async def stop(self, within_seconds: float) -> bool:
        """Asks it to end, and ends it when it does not in time. Answers whether it ended by itself."""
        self.send(signal.SIGTERM)
        try:
            async with asyncio.timeout(within_seconds):
                await self._process.wait()
        except TimeoutError:
            self.send(signal.SIGKILL)
            await self._process.wait()
            return False
        return True


def describe_end(status: int) -> str:
    """How a process ended, in words, from the status that `Child.wait` answers."""
    if status >= 0:
        return f"exited with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"
