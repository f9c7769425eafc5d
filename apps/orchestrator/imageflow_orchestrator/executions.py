"""Every execution that has a record, from acceptance to its end: exactly once, whatever fails (R53-R55)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from time import perf_counter
from typing import Any

from opentelemetry import trace

from imageflow.v1.execution_pb2 import Execution
from imageflow.v1.record_pb2 import ExecutionRecord, RecordedRequest
from imageflow_common.errors import (
    AlreadyExists,
    Cancelled,
    ImageFlowError,
    Overloaded,
    Unavailable,
)
from imageflow_common.events import Events
from imageflow_common.logs import EventLog
from imageflow_common.store import ObjectStore

from . import batch
from .admission import Priority, Slot
from .batch_run import BatchRun
from .cancelling import Cancelling
from .checkpoint import Checkpoint
from .claim import check_request, new_record, refuse_another
from .engine import Engine, Requested, since
from .lifecycle import Lifecycle
from .live import Key, Live
from .measures import Backlog
from .messages import read_values
from .news import News
from .patience import PatientStore, patience_of
from .pending import Pending, deadline_passed, outlives_process
from .performance import Performance
from .plan import Plan
from .planned import ASYNCHRONOUS
from .planner import Planner
from .records import HeldRecord, Records, has_ended, now, since_acceptance
from .run import Run
from .share import WHOLE, Share
from .traced import link_to_caller, traced_run
from .unbroken import unbroken

log = EventLog(__name__)

_PLAN_AGAIN_SECONDS = 1.0
_POLL_SECONDS = 0.2
_OVERLOADED_FOR = timedelta(seconds=5)


class Executions:
    """Accepts executions, performs them, resumes what a crash interrupted."""

    def __init__(
        self,
        *,
        engine: Engine,
        planner: Planner,
        store: ObjectStore,
        records: Records,
        events: Events,
        max_pending: int,
        retention: timedelta,
    ) -> None:
        self._engine = engine
        self._planner = planner
        self.store = store
        self._records = records
        self._events = events
        self.max_pending = max_pending
        self._pending = Pending(records)
        self._lifecycle = Lifecycle(records, events, retention)
        self._cancelling = Cancelling(records, self.live, lambda execution: self._share.pass_on(execution))
        self._live: dict[Key, Live] = {}
        self._claiming: Counter[Key] = Counter()
        self._stopping = False
        self._holds_queue = False
        self._share: Share = WHOLE

    def hold_queue(self, share: Share = WHOLE) -> None:
        """From now on this process begins what is accepted and in its share; until then whoever holds the queue
        does."""
        self._holds_queue, self._share = True, share

    async def let_queue_go(self) -> None:
        """Another process holds it now, and takes up what this one has accepted: that is left as it is."""
        self._holds_queue = False
        if tasks := self.leave():
            await asyncio.wait(tasks)

    def leave(self) -> list[asyncio.Task[Any]]:
        """Stops what is no longer this process's to run: another one goes on with it, where its record is."""
        left = [live for live in self._live.values() if live.task is not None and outlives_process(live.record)]
        tasks = [each.task for each in left if each.task is not None and not self._runs(each.key[1])]
        for task in tasks:
            task.cancel()
        return tasks

    def backlog(self) -> Backlog:
        """What is left to do: where this process does not hold the queue, as of its last survey."""
        return Backlog(self._count_pending(), self._lifecycle.untold)

    def live(self, namespace: str, execution_id: str) -> Live | None:
        """An execution that this process has not ended yet."""
        return self._live.get((namespace, execution_id))

    async def known(self, namespace: str, execution_id: str) -> Execution:
        """An execution as it stands. Raises NotFound, DataLoss."""
        live = self.live(namespace, execution_id)
        return live.standing() if live is not None else await self._records.get(namespace, execution_id)

    async def until_ended(self, namespace: str, execution_id: str) -> Execution:
        """Waits for an execution's end, here or elsewhere. Raises as `known`."""
        while True:
            live = self.live(namespace, execution_id)
            if live is not None:
                await live.ended.wait()
            if has_ended(known := await self._records.get(namespace, execution_id)):
                return known
            await asyncio.sleep(_POLL_SECONDS)

    async def execute(self, request: RecordedRequest, plan: Plan, requested: Requested) -> Execution:
        """Performs an execution for a caller who waits, and who ends it by going away.

        The same id with the same request answers the execution that there is, when it has ended. Raises AlreadyExists
        for an id that is taken by another request, ObjectNotFound, InvalidKey, InvalidArgument and its kin,
        Overloaded. A run that failed is an execution that FAILED.
        """
        check_request(request, requested)
        record = new_record(request, plan, requested, ExecutionRecord.SYNCHRONOUS)
        begun = perf_counter()
        async with self._engine.admission.slot(requested.namespace) as slot:
            record.execution.timings.queue_ms = since(begun)
            trace.get_current_span().add_event("admitted")
            held = await self._claim_or_close(record)
            if held is not None:
                async with self._living(held) as live:
                    live.task, live.begun = asyncio.current_task(), True
                    await self._perform(live, plan, requested.plan_ms, slot)
                return live.execution
        await self._same(record)
        return await self.until_ended(record.execution.namespace, record.execution.execution_id)

    async def accept(self, record: ExecutionRecord) -> Execution:
        """Stores an execution and begins it as soon as its turn comes; it survives its caller and this process.

        The same id with the same request answers the execution that there is. Raises AlreadyExists for an id that is
        taken by another request, Overloaded when too many are pending.
        """
        pending = self._count_pending() + self._claiming.total()
        if pending >= self.max_pending or self._stopping:
            raise Overloaded(f"{pending} executions are pending", retry_after=_OVERLOADED_FOR)
        return await self.accept_child(record)

    async def accept_child(self, record: ExecutionRecord) -> Execution:
        """As `accept`, however many are pending: a batch bounds its own."""
        return await unbroken(self._accept(record))

    async def plan(self, request: RecordedRequest) -> Plan:
        """Waits for a component that is not there: what was accepted is not lost for that."""
        while True:
            try:
                return self._planner.given(request.pipeline, read_values(request.overrides), defaults=ASYNCHRONOUS)
            except Unavailable:
                await asyncio.sleep(_PLAN_AGAIN_SECONDS)

    async def cancel(self, namespace: str, execution_id: str, message: str) -> Execution:
        """Asks for an execution's end, and waits for it where it runs here. Raises NotFound; FailedPrecondition when it
        has ended."""
        return await self._cancelling.cancel(namespace, execution_id, message)

    async def recover(self) -> None:
        """Takes up what an earlier process left: resumes what was accepted, closes what had a waiting caller, sends
        what was not sent. A record that cannot be read is reported and left for a person to look at."""
        self._lifecycle.forget_untold()
        if resumed := await self._pending.take_up(self._take_up, self._at_work_on, self._cancelling.called_off):
            log.info("executions.resumed", count=resumed)

    async def look(self, key: Key) -> None:
        """As `recover`, for one execution of which somebody says that it is worth a look. Raises as `known`."""
        await self._cancelling.called_off(key)
        if not self._at_work_on(key):
            held = await self._records.hold(*key)
            if not has_ended(held.record.execution) and not self._at_work_on(key):
                await self._take_up(held)

    async def survey(self) -> None:
        """Counts what is pending, here and elsewhere, and ends what runs here and was called off elsewhere: what a
        process does that does not hold the queue."""
        await self._pending.survey(self._cancelling.called_off)

    async def stop(self, grace_seconds: float) -> None:
        """Takes no more; lets what runs finish, and leaves the rest for the next process to resume."""
        self._stopping = True
        tasks = {live.task for live in self._live.values() if live.task is not None and live.run is None}
        running = {live.task for live in self._live.values() if live.task is not None and live.run is not None}
        for task in tasks:
            task.cancel()
        if running:
            _, late = await asyncio.wait(running, timeout=grace_seconds)
            for task in late:
                task.cancel()
            tasks |= late
        if tasks:
            await asyncio.wait(tasks, timeout=grace_seconds)

    def _count_pending(self) -> int:
        return len(self._live) if self._holds_queue else self._pending.known

    async def _accept(self, record: ExecutionRecord) -> Execution:
        link_to_caller(record)
        held = await self._claim(record)
        if held is None:
            return await self._same(record)
        answer = Execution()
        answer.CopyFrom(record.execution)
        if self._runs(answer.execution_id) and not self._stopping:
            self._begin(held)
        else:
            self._pending.add()
            await self._share.pass_on(answer)
        return answer

    def _begin(self, held: HeldRecord) -> None:
        live = self._enlist(held)
        live.task = asyncio.create_task(self._later(live))

    async def _later(self, live: Live) -> None:
        """An accepted execution, from waiting for its turn to its end."""
        live.begun = True
        try:
            with traced_run(self._engine.spans, live.record):
                if live.record.kind is ExecutionRecord.BATCH:
                    await self._perform_batch(live)
                else:
                    await self._perform_in_turn(live)
        except asyncio.CancelledError:
            if live.cancel_message is None:
                raise
            await self._lifecycle.close(live, Cancelled(live.cancel_message))
        except ImageFlowError as exc:
            await self._lifecycle.close(live, exc)
        except Exception as exc:
            log.error("execution.broken", execution_id=live.execution.execution_id, exc_info=exc)
            await self._lifecycle.close(live, ImageFlowError())
        finally:
            await self._let_go(live)

    async def _perform_in_turn(self, live: Live) -> None:
        live.refuse_cancelled()
        begun = perf_counter()
        planned = await self.plan(live.record.request)
        plan_ms = since(begun)
        priority = Priority.BATCH if live.execution.parent_execution_id else Priority.ASYNCHRONOUS
        begun = perf_counter()
        async with self._engine.admission.slot(live.execution.namespace, priority) as slot:
            live.execution.timings.queue_ms = since(begun)
            trace.get_current_span().add_event("admitted")
            await self._perform(live, planned, plan_ms, slot)

    async def _perform_batch(self, live: Live) -> None:
        run, execution = BatchRun(self, live), live.execution
        try:
            live.refuse_cancelled()
        except Cancelled as exc:
            await run.cancel(exc.message)
            raise
        await self._lifecycle.start(live)
        await run.perform()
        execution.execution_time_ms = since_acceptance(execution)
        if (error := batch.failure_of(execution)) is not None:
            raise error
        ended = Execution(status=Execution.COMPLETED)
        ended.end_time.FromDatetime(now())
        await self._lifecycle.end(live, ended)

    async def _perform(self, live: Live, plan: Plan, plan_ms: float, slot: Slot) -> None:
        """To the end, which is stored and told."""
        resumed = live.execution.HasField("start_time")
        await self._lifecycle.start(live)

        def started(run: Run) -> None:
            live.run = run

        store = PatientStore(self.store, patience_of(live.record))
        performance = Performance(self._engine, store, plan, live.checkpoint, live.news, plan_ms, started)
        ended = await performance.perform(slot)
        if resumed:  # another process began it, and its time counts
            live.execution.execution_time_ms = max(live.execution.execution_time_ms, since_acceptance(live.execution))
        await self._lifecycle.end(live, ended)

    async def _claim(self, record: ExecutionRecord) -> HeldRecord | None:
        """Writes the record; None when the id is taken. It counts as accepted from now."""
        execution = record.execution
        execution.create_time.FromDatetime(now())
        key = execution.namespace, execution.execution_id
        self._claiming[key] += 1
        try:
            return await self._records.create(record, pending=True)
        except AlreadyExists:
            return None
        finally:
            self._claiming[key] -= 1
            self._claiming += Counter()  # forgets what is at 0

    async def _claim_or_close(self, record: ExecutionRecord) -> HeldRecord | None:
        """As `_claim`. When this is cancelled meanwhile, the record is closed."""
        claiming = asyncio.create_task(self._claim(record))
        try:
            return await asyncio.shield(claiming)
        except asyncio.CancelledError:
            await asyncio.wait([claiming])
            if not claiming.cancelled() and claiming.exception() is None and (held := claiming.result()) is not None:
                live = self._enlist(held)
                await self._lifecycle.close(live, _went_away())
                await self._let_go(live)
            raise

    @asynccontextmanager
    async def _living(self, held: HeldRecord) -> AsyncIterator[Live]:
        """A synchronous execution, closed whatever ends the block. One that somebody else cancelled leaves it in
        peace."""
        live = self._enlist(held)
        try:
            yield live
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if live.cancel_message is not None and task is not None and task.uncancel() == 0:
                await self._lifecycle.close(live, Cancelled(live.cancel_message))
                return
            await unbroken(self._lifecycle.close(live, _went_away()))
            raise
        except ImageFlowError as exc:
            await self._lifecycle.close(live, exc)
            raise
        except Exception as exc:
            log.error("execution.broken", execution_id=live.execution.execution_id, exc_info=exc)
            await self._lifecycle.close(live, ImageFlowError())
            raise
        finally:
            await self._let_go(live)

    def _enlist(self, held: HeldRecord) -> Live:
        execution = held.record.execution
        live = Live(
            Checkpoint(self._records, held, lambda message: live.cancel(message), patience_of(held.record)),
            News(self._events, execution),
        )
        self._live[live.key] = live
        return live

    async def _let_go(self, live: Live) -> None:
        try:
            await live.checkpoint.abandon()
            await live.news.close()
        finally:
            live.ended.set()
            if self._live.get(live.key) is live:
                del self._live[live.key]

    async def _take_up(self, held: HeldRecord) -> int:
        """1 if the execution goes on, else 0."""
        record, execution = held.record, held.record.execution
        if has_ended(execution):
            if await self._records.is_pending(execution):  # else it has told so since its marker was listed
                await self._lifecycle.tell_again(execution)
            return 0
        execution.last_event_number = max(execution.last_event_number, record.reserved_event_number)
        if outlives_process(record):
            self._begin(held)
            return 1
        if deadline_passed(record):
            live = self._enlist(held)
            await self._lifecycle.close(
                live, Unavailable("the orchestrator ended before the execution did", reason="INTERRUPTED")
            )
            await self._let_go(live)
        return 0

    def _at_work_on(self, key: Key) -> bool:
        """Or not to be taken up here, or any more."""
        others = not self._share.holds(key[1])
        return self._stopping or others or key in self._live or key in self._claiming

    def _runs(self, execution_id: str) -> bool:
        return self._holds_queue and self._share.holds(execution_id)

    async def _same(self, record: ExecutionRecord) -> Execution:
        """The execution that has the id. Raises AlreadyExists when it was asked for otherwise."""
        execution = record.execution
        held = await self._records.hold(execution.namespace, execution.execution_id)
        refuse_another(held.record, record)
        live = self.live(execution.namespace, execution.execution_id)
        return live.standing() if live is not None else held.record.execution


def _went_away() -> Cancelled:
    return Cancelled("the caller went away before the execution ended", reason="CLIENT_WENT_AWAY")
