"""Who holds the queue of accepted executions: of all orchestrators on one directory, one."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from time import perf_counter

from imageflow_common.errors import ImageFlowError
from imageflow_common.logs import EventLog

from .executions import Executions

log = EventLog(__name__)

_TRY_AGAIN_SECONDS = 1.0
_SLOWEST_SECONDS = 30.0


async def hold_queue(executions: Executions, lock_file: Path) -> None:
    """Waits for the lock, and surveys what is pending; then takes it up, now and whenever another orchestrator has
    accepted more. The lock is let go with the process, however that ends."""
    fd = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        look_again = 0.0
        while not _locked(fd):
            if perf_counter() >= look_again:
                look_again = perf_counter() + await _look(executions.survey)
            await asyncio.sleep(_TRY_AGAIN_SECONDS)
        log.info("queue.held")
        executions.hold_queue()
        while True:  # noqa: ASYNC110 - others accept, in processes of their own
            await asyncio.sleep(await _look(executions.recover))
    finally:
        os.close(fd)


async def _look(look: Callable[[], Awaitable[None]]) -> float:
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


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
