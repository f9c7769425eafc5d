"""Ends an execution on request, wherever it runs: here at once, elsewhere by a mark in its record (R54)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from imageflow.v1.execution_pb2 import Execution
from imageflow_common.errors import FailedPrecondition, WriteConflict

from .live import Key, Live
from .records import Records, has_ended

_TRIES: Final = 10


class Cancelling:
    """`live` finds an execution of this process; `pass_on` tells whoever runs another that its record has changed."""

    def __init__(
        self,
        records: Records,
        live: Callable[[str, str], Live | None],
        pass_on: Callable[[Execution], Awaitable[None]],
    ) -> None:
        self._records = records
        self._live = live
        self._pass_on = pass_on

    async def cancel(self, namespace: str, execution_id: str, message: str) -> Execution:
        """Asks for an execution's end, and waits for it where it runs here. Raises NotFound; FailedPrecondition when it
        has ended."""
        for _ in range(_TRIES):
            live = self._live(namespace, execution_id)
            if live is not None:
                return await self._cancel(live, message)
            with suppress(WriteConflict):  # it was taken up, or went on, meanwhile
                marked = await self._mark(namespace, execution_id, message)
                await self._pass_on(marked)
                return marked
        raise WriteConflict("the execution goes on too fast; try again")

    async def called_off(self, key: Key) -> None:
        """Ends an execution that runs here, if its record says that another process was asked to."""
        live = self._live(*key)
        if live is None or live.cancel_message is not None:
            return
        record = (await self._records.hold(*key)).record
        if record.cancel_requested and not has_ended(record.execution):
            live.cancel(record.cancel_message)

    async def _cancel(self, live: Live, message: str) -> Execution:
        if live.stored:
            raise _has_ended()
        live.cancel(message or "cancelled on request")
        await live.ended.wait()
        return await self._records.get(*live.key)

    async def _mark(self, namespace: str, execution_id: str, message: str) -> Execution:
        """Asks whoever runs it, or will. Raises WriteConflict when it was written meanwhile."""
        held = await self._records.hold(namespace, execution_id)
        if has_ended(held.record.execution):
            raise _has_ended()
        held.record.cancel_requested, held.record.cancel_message = True, message
        await self._records.replace(held, held.record)
        await self._records.mark_cancelled(held.record.execution)
        return held.record.execution


def _has_ended() -> FailedPrecondition:
    return FailedPrecondition("the execution has ended", reason="EXECUTION_ENDED")
