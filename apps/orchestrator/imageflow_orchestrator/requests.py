"""Requests from the broker (R40): each becomes an execution, and counts as done when that one's outcome is stored.

A message may come again at any time: the record says whether its execution is there already. What cannot become one is
set aside with the reason, and told as a completion that failed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from opentelemetry import context as otel_context

from imageflow.v1.execution_pb2 import Execution
from imageflow_common.errors import AlreadyExists, ImageFlowError, NotFound
from imageflow_common.events import Events
from imageflow_common.logs import EventLog
from imageflow_common.telemetry import context_from_metadata
from imageflow_common.workqueue import Lease, Message, WorkQueue

from .acceptance import prepare_record
from .asked import Asked, read_asked
from .executions import Executions
from .news import refusal
from .planner import Planner
from .records import Records, has_ended
from .request_message import Wanted, named_execution, read_wanted
from .traced import continue_message

log = EventLog(__name__)

_AGAIN_SECONDS = 1.0
_HOPELESS = {"INVALID_ARGUMENT", "NOT_FOUND", "ALREADY_EXISTS", "FAILED_PRECONDITION", "UNIMPLEMENTED", "DATA_LOSS"}
"""The codes of what the message itself is to blame for; all else is waited for."""


class Requests:
    """Takes what there is, many at a time."""

    def __init__(
        self,
        queue: WorkQueue,
        *,
        executions: Executions,
        planner: Planner,
        records: Records,
        events: Events,
        at_once: int,
    ) -> None:
        self._queue = queue
        self._executions = executions
        self._planner = planner
        self._records = records
        self._events = events
        self._at_once = at_once
        self._accepting: dict[str, asyncio.Lock] = {}

    async def run(self) -> None:
        """Until cancelled: what is in hand then is given again."""
        async with asyncio.TaskGroup() as takers:
            for _ in range(self._at_once):
                takers.create_task(self._take())

    async def _take(self) -> None:
        while True:
            try:
                async with self._queue.take() as lease:
                    with _within_its_trace(lease.message):
                        await self._serve(lease)
            except ImageFlowError as exc:  # the lease was lost, or what is hopeless could not be set aside
                log.debug("request.given_again", error_type=exc.reason)
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _serve(self, lease: Lease) -> None:
        try:
            wanted = read_wanted(lease.message)
            if not has_ended(await self._accepted(wanted)):
                await self._until_ended(wanted)
        except ImageFlowError as exc:
            await self._refuse(lease, exc)
        except Exception as exc:
            log.error("request.broken", exc_info=exc)
            await self._refuse(lease, ImageFlowError())
        else:
            await lease.ack()

    async def _accepted(self, wanted: Wanted) -> Execution:
        """The execution as it stands. Of two that ask for one id the first that came is the first here too."""
        lock = self._accepting.setdefault(wanted.execution_id, asyncio.Lock())
        try:
            async with lock:
                while True:
                    try:
                        return await self._accept_once(wanted)
                    except ImageFlowError as exc:
                        if exc.code in _HOPELESS:
                            raise
                        log.debug("request.waits", execution_id=wanted.execution_id, error_type=exc.reason)
                    await asyncio.sleep(_AGAIN_SECONDS)
        finally:
            if not lock.locked():
                self._accepting.pop(wanted.execution_id, None)

    async def _accept_once(self, wanted: Wanted) -> Execution:
        """A definition that is stored may have changed since the message came first: so the record is asked before."""
        if (known := await self._known(wanted)) is not None:
            return known
        begun = perf_counter()
        asked = await read_asked(wanted.request, self._planner)
        asked = Asked(asked.request, asked.execution_id, [*wanted.faults, *asked.faults])
        record = await prepare_record(
            asked,
            self._planner,
            self._executions.store,
            namespace=wanted.namespace,
            begun=begun,
            request_sha256=wanted.sha256,
        )
        continue_message(record)
        return await self._executions.accept(record)

    async def _known(self, wanted: Wanted) -> Execution | None:
        """Raises AlreadyExists when another request has the id."""
        try:
            known = (await self._records.hold(wanted.namespace, wanted.execution_id)).record
        except NotFound:
            return None
        if known.request_sha256 != wanted.sha256:
            raise AlreadyExists(
                f"the execution {wanted.execution_id!r} was asked for with another request", reason="EXECUTION_EXISTS"
            )
        return known.execution

    async def _until_ended(self, wanted: Wanted) -> None:
        while True:
            try:
                await self._executions.until_ended(wanted.namespace, wanted.execution_id)
            except NotFound:
                return  # it ended, and was deleted
            except ImageFlowError as exc:
                if exc.code in _HOPELESS:
                    raise
                await asyncio.sleep(_AGAIN_SECONDS)
            else:
                return

    async def _refuse(self, lease: Lease, error: ImageFlowError) -> None:
        reason = f"{error.reason}: {error.message}"
        named = named_execution(lease.message)
        log.warning("request.refused", execution_id=named[1] if named else "", error_type=error.reason)
        if named is not None and not isinstance(error, AlreadyExists):
            await self._events.publish(refusal(*named, reason))
        await lease.dead_letter(reason)


@contextmanager
def _within_its_trace(message: Message) -> Iterator[None]:
    token = otel_context.attach(context_from_metadata(message.headers.items()))
    try:
        yield
    finally:
        otel_context.detach(token)
