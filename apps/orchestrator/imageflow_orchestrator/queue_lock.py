"""Who holds the queue of accepted executions: of all orchestrators on one store, one."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter
from typing import Protocol

from imageflow_common.errors import ImageFlowError
from imageflow_common.logs import EventLog

from .executions import Executions

log = EventLog(__name__)

_TRY_AGAIN_SECONDS = 1.0
_SLOWEST_SECONDS = 30.0


class QueueHold(Protocol):
    """What one orchestrator at a time has."""

    async def take(self) -> None:
        """Waits until it is ours."""
        ...

    async def lost(self) -> None:
        """Waits until it is another's; for ever where that cannot be."""
        ...

    async def let_go(self) -> None:
        """Leaves it to whoever waits. Raises nothing."""
        ...


class FileHold:
    """A lock on a file of this machine. It is let go with the process, however that ends."""

    def __init__(self, file: Path) -> None:
        self._fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    async def take(self) -> None:
        while not self._locked():  # noqa: ASYNC110 - another process has it
            await asyncio.sleep(_TRY_AGAIN_SECONDS)

    async def lost(self) -> None:
        await asyncio.Event().wait()

    async def let_go(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _locked(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


async def hold_queue(executions: Executions, hold: QueueHold) -> None:
    """Waits for the queue, and surveys what is pending; then takes it up, now and whenever another orchestrator has
    accepted more."""
    while True:
        await _looking(executions.survey, hold.take())
        log.info("queue.held")
        executions.hold_queue()
        await _looking(executions.recover, hold.lost())
        log.warning("queue.lost")
        await executions.let_queue_go()


async def _looking(look: Callable[[], Awaitable[None]], until: Awaitable[None]) -> None:
    """Looks at what is pending, again and again, until something has come to pass."""
    looking = asyncio.create_task(_look_on(look))
    try:
        await until
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


async def _look_on(look: Callable[[], Awaitable[None]]) -> None:
    while True:  # noqa: ASYNC110 - others accept, in processes of their own
        await asyncio.sleep(await look_once(look))


async def look_once(look: Callable[[], Awaitable[None]]) -> float:
    """Looks at what is pending; answers how many seconds to wait before the next look."""
    begun = perf_counter()
    try:
        await look()
    except ImageFlowError as exc:
        log.warning("queue.not_read", error_type=exc.reason)
    return _pause(perf_counter() - begun)


def _pause(seconds_taken: float) -> float:
    """Ten times as long as looking took, so that many thousands pending do not slow down those that run."""
    return min(_SLOWEST_SECONDS, max(_TRY_AGAIN_SECONDS, 10 * seconds_taken))
