"""Every execution that has a record, from acceptance to its end: exactly once, whatever fails (D8, R53-R55)."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, timedelta
from time import perf_counter

from google.protobuf.json_format import MessageToDict

from imageflow.v1.execution_pb2 import BatchCounts, Execution
from imageflow.v1.record_pb2 import ExecutionRecord, RecordedRequest
from imageflow_common.errors import (
    AlreadyExists,
    Cancelled,
    DataLoss,
    FailedPrecondition,
    ImageFlowError,
    NotFound,
    Overloaded,
    Unavailable,
    WriteConflict,
)
from imageflow_common.events import Events
from imageflow_common.keys import IndexedExecution, metadata_key, parse_user_key
from imageflow_common.logs import EventLog
from imageflow_common.store import ObjectStore

from . import batch
from .admission import Priority, Slot
from .checkpoint import Checkpoint
from .engine import Engine, Requested, chosen_format, log_finished, new_execution, since
from .messages import read_values
from .news import News
from .performance import Performance
from .plan import Plan
from .planned import ASYNCHRONOUS, SYNCHRONOUS
from .planner import Planner
from .records import HeldRecord, Records, belongs_to, has_ended, now
from .run import Run

log = EventLog(__name__)

_PLAN_AGAIN_SECONDS = 1.0
_POLL_SECONDS = 0.2
_DEADLINE_MARGIN = timedelta(seconds=10)
"""What storing an outcome may take after the deadline of a run."""
_OVERLOADED_FOR = timedelta(seconds=5)
_ACCEPTING_TAKES_AT_MOST = timedelta(minutes=1)
"""How old a marker is before it is removed because it has no record: until then its record may be on its way."""


@dataclass(slots=True, eq=False)
class Live:
    """An execution of this process that has not ended: accepted, waiting or running."""

    checkpoint: Checkpoint
    news: News
    run: Run | None = None
    task: asyncio.Task[None] | None = None
    cancel_message: str | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def record(self) -> ExecutionRecord:
        return self.checkpoint.record

    @property
    def execution(self) -> Execution:
        return self.record.execution

    def cancel(self, message: str) -> None:
        """Ends it as CANCELLED: what runs is stopped, what waits for its turn waits no longer."""
        if self.cancel_message is not None:
            return
        self.cancel_message = message
        if self.run is not None:
            self.run.cancel(message)
        elif self.task is not None:
            self.task.cancel()


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
        self._max_pending = max_pending
        self._retention = retention
        self._live: dict[tuple[str, str], Live] = {}
        self._claiming: Counter[tuple[str, str]] = Counter()
        self._stopping = False
        self._holds_queue = False

    def hold_queue(self) -> None:
        """From now on this process begins what is accepted; until then whoever holds the queue does."""
        self._holds_queue = True

    def live(self, namespace: str, execution_id: str) -> Live | None:
        """An execution that this process has not ended yet."""
        return self._live.get((namespace, execution_id))

    async def execute(self, request: RecordedRequest, plan: Plan, requested: Requested) -> Execution:
        """Performs an execution for a caller who waits, and who ends it by going away.

        The same id with the same request answers the execution that there is, when it has ended. Raises AlreadyExists
        for an id that is taken by another request, ObjectNotFound, InvalidKey, InvalidArgument and its kin,
        Overloaded. A run that failed is an execution that FAILED.
        """
        _check(request, requested)
        record = new_record(request, plan, requested, ExecutionRecord.SYNCHRONOUS)
        begun = perf_counter()
        async with self._engine.admission.slot(requested.namespace) as slot:
            record.execution.timings.queue_ms = since(begun)
            held = await self._claim(record)
            if held is None:
                slot.release()
                return await self._existing(record)
            async with self._living(held) as live:
                live.task = asyncio.current_task()
                await self._perform(live, plan, requested.plan_ms, slot)
                return live.execution

    async def accept(self, record: ExecutionRecord) -> Execution:
        """Stores an execution and begins it as soon as its turn comes; it survives this process.

        The same id with the same request answers the execution that there is. Raises AlreadyExists for an id that is
        taken by another request, Overloaded when too many are pending.
        """
        if len(self._live) >= self._max_pending or self._stopping:
            raise Overloaded(f"{len(self._live)} executions are pending", retry_after=_OVERLOADED_FOR)
        with self._claimed(record.execution):
            held = await self._claim(record)
            if held is None:
                return await self._known(record)
            answer = Execution()
            answer.CopyFrom(record.execution)
            if self._holds_queue:
                self._begin(held)
            return answer

    async def cancel(self, namespace: str, execution_id: str, message: str) -> Execution:
        """Asks for an execution's end, and waits for it. Raises NotFound; FailedPrecondition when it has ended."""
        live = self.live(namespace, execution_id)
        if live is not None:
            live.cancel(message or "cancelled on request")
            await live.ended.wait()
            return await self._records.get(namespace, execution_id)
        held = await self._records.hold(namespace, execution_id)
        if has_ended(held.record.execution):
            raise FailedPrecondition("the execution has ended", reason="EXECUTION_ENDED")
        held.record.cancel_requested, held.record.cancel_message = True, message
        await self._records.replace(held, held.record)
        return held.record.execution

    async def recover(self) -> None:
        """Takes up what an earlier process left: resumes what was accepted, closes what had a waiting caller, sends
        what was not sent. A record that cannot be read is reported and left for a person to look at."""
        resumed = 0
        async for entry in self._records.pending():
            if self._is_at_work(entry):
                continue
            try:
                resumed += await self._recover(entry)
            except ImageFlowError as exc:
                log.error("execution.not_recovered", execution_id=entry.execution_id, error_type=exc.reason)
        if resumed:
            log.info("executions.resumed", count=resumed)

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

    def _begin(self, held: HeldRecord) -> Live:
        live = self._enlist(held)
        live.task = asyncio.create_task(self._later(live))
        return live

    async def _later(self, live: Live) -> None:
        """An accepted execution, from waiting for its turn to its end."""
        key = (live.execution.namespace, live.execution.execution_id)
        try:
            if live.record.kind is ExecutionRecord.BATCH:
                await self._perform_batch(live)
            else:
                await self._perform_in_turn(live)
        except asyncio.CancelledError:
            if live.cancel_message is None:
                raise
            await self._close(live, Cancelled(live.cancel_message))
        except ImageFlowError as exc:
            await self._close(live, exc)
        except Exception as exc:
            log.error("execution.broken", execution_id=key[1], exc_info=exc)
            await self._close(live, ImageFlowError())
        finally:
            await live.checkpoint.abandon()
            live.ended.set()
            if self._live.get(key) is live:
                del self._live[key]

    async def _perform_in_turn(self, live: Live) -> None:
        begun = perf_counter()
        planned = await self._plan(live.record.request)
        plan_ms = since(begun)
        priority = Priority.BATCH if live.execution.parent_execution_id else Priority.ASYNCHRONOUS
        begun = perf_counter()
        async with self._engine.admission.slot(live.execution.namespace, priority) as slot:
            live.execution.timings.queue_ms = since(begun)
            await self._perform(live, planned, plan_ms, slot)

    async def _perform_batch(self, live: Live) -> None:
        """The parent holds no slot; its children do. What of them has ended before is only counted."""
        execution = live.execution
        images = batch.children(live.record)
        execution.status = Execution.RUNNING
        execution.start_time.FromDatetime(now())
        execution.batch.CopyFrom(BatchCounts(total=len(images)))
        live.news.progress("", "RUNNING")
        await live.checkpoint.write()
        waiting = iter(images)
        running: set[asyncio.Task[Execution]] = set()
        concurrency = live.record.request.batch.concurrency or batch.DEFAULT_CONCURRENCY
        try:
            while batch.done(execution) < len(images):
                while len(running) < concurrency and (child := next(waiting, None)) is not None:
                    running.add(asyncio.create_task(self._child(live, child)))
                ended, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in ended:
                    batch.count(execution, task.result().status)
                live.news.progress("", "RUNNING", f"{batch.done(execution)} of {len(images)} images")
        finally:
            for task in running:
                task.cancel()
        execution.end_time.FromDatetime(now())
        execution.execution_time_ms = (now() - execution.start_time.ToDatetime(tzinfo=UTC)) / timedelta(milliseconds=1)
        if (error := batch.failure_of(execution)) is not None:
            await self._close(live, error)
            return
        execution.status = Execution.COMPLETED
        await self._end(live)

    async def _child(self, parent: Live, child: batch.Child) -> Execution:
        """One image's execution, when it has ended; cancelled with its parent."""
        request = batch.child_request(parent.record, child)
        namespace = parent.execution.namespace
        requested = Requested(namespace=namespace, execution_id=batch.child_id(parent.record, child))
        plan = await self._plan(request)
        record = new_record(request, plan, requested, ExecutionRecord.ASYNCHRONOUS)
        record.execution.parent_execution_id = parent.execution.execution_id
        accepted = await batch.until_accepted(self.accept, record)
        try:
            while not has_ended(accepted):
                live = self.live(namespace, accepted.execution_id)
                if live is not None:
                    await live.ended.wait()
                else:
                    await asyncio.sleep(_POLL_SECONDS)
                accepted = await self._records.get(namespace, accepted.execution_id)
        except asyncio.CancelledError:
            live = self.live(namespace, accepted.execution_id)
            if live is not None and parent.cancel_message is not None:
                live.cancel(parent.cancel_message)
            raise
        return accepted

    async def _plan(self, request: RecordedRequest) -> Plan:
        """Waits for a component that is not there: what was accepted is not lost for that."""
        while True:
            try:
                return self._planner.given(request.pipeline, read_values(request.overrides), defaults=ASYNCHRONOUS)
            except Unavailable:
                await asyncio.sleep(_PLAN_AGAIN_SECONDS)

    async def _perform(self, live: Live, plan: Plan, plan_ms: float, slot: Slot) -> None:
        """To the end, which is stored and told."""
        execution = live.execution
        if live.record.cancel_requested:
            raise Cancelled(live.record.cancel_message or "cancelled on request")
        execution.status = Execution.RUNNING
        execution.start_time.FromDatetime(now())
        live.news.progress("", "RUNNING")
        await live.checkpoint.write()

        def started(run: Run) -> None:
            live.run = run
            if live.cancel_message is not None:
                run.cancel(live.cancel_message)

        performance = Performance(self._engine, self.store, plan, live.checkpoint, live.news, plan_ms, started)
        await performance.perform(slot)
        await self._end(live)

    async def _end(self, live: Live) -> None:
        """Stores the outcome, then tells it, then lets the marker go: whatever breaks off here is taken up again."""
        execution = live.execution
        execution.expire_time.FromDatetime(now() + self._retention)
        await live.checkpoint.settle()
        await live.checkpoint.write()
        log_finished(execution)
        await self._tell(live.news, execution)

    async def _tell(self, news: News, execution: Execution) -> None:
        news.completion()
        await news.flush()
        await self._records.settle(execution)

    async def _close(self, live: Live, error: ImageFlowError) -> None:
        """Ends an execution that came to no result."""
        if isinstance(error, WriteConflict):
            log.warning("execution.fenced", execution_id=live.execution.execution_id)
            return
        execution = live.execution
        execution.status = Execution.CANCELLED if isinstance(error, Cancelled) else Execution.FAILED
        execution.error.code, execution.error.reason, execution.error.message = error.code, error.reason, error.message
        execution.final_output_path = ""
        execution.end_time.FromDatetime(now())
        try:
            await self._end(live)
        except ImageFlowError as exc:
            log.warning("record.not_written", execution_id=execution.execution_id, error_type=exc.reason)

    async def _claim(self, record: ExecutionRecord) -> HeldRecord | None:
        """Writes the record; None when the id is taken. When this is cancelled meanwhile, the record is closed."""
        creating = asyncio.create_task(self._records.create(record, pending=True))
        try:
            return await asyncio.shield(creating)
        except AlreadyExists:
            return None
        except asyncio.CancelledError:
            with suppress(ImageFlowError):
                held = await asyncio.shield(creating)
                await asyncio.shield(self._close(self._enlist(held), _went_away()))
                self._live.pop((record.execution.namespace, record.execution.execution_id), None)
            raise

    @asynccontextmanager
    async def _living(self, held: HeldRecord) -> AsyncIterator[Live]:
        """A synchronous execution, closed whatever ends the block."""
        live = self._enlist(held)
        try:
            yield live
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if live.cancel_message is not None and task is not None and task.uncancel() == 0:
                await self._close(live, Cancelled(live.cancel_message))
                return
            await asyncio.shield(self._close(live, _went_away()))
            raise
        except ImageFlowError as exc:
            await self._close(live, exc)
            raise
        except Exception as exc:
            log.error("execution.broken", execution_id=live.execution.execution_id, exc_info=exc)
            await self._close(live, ImageFlowError())
            raise
        finally:
            await live.checkpoint.abandon()
            live.ended.set()
            self._live.pop((live.execution.namespace, live.execution.execution_id), None)

    @contextmanager
    def _claimed(self, execution: Execution) -> Iterator[None]:
        """While this holds, an execution that is about to be live is not taken up as one that was left."""
        key = (execution.namespace, execution.execution_id)
        self._claiming[key] += 1
        try:
            yield
        finally:
            self._claiming[key] -= 1
            if not self._claiming[key]:
                del self._claiming[key]

    def _is_at_work(self, entry: IndexedExecution) -> bool:
        key = (entry.namespace, entry.execution_id)
        return key in self._live or key in self._claiming

    def _enlist(self, held: HeldRecord) -> Live:
        execution = held.record.execution
        live = Live(
            Checkpoint(self._records, held, lambda message: live.cancel(message)), News(self._events, execution)
        )
        self._live[execution.namespace, execution.execution_id] = live
        return live

    async def _recover(self, entry: IndexedExecution) -> int:
        """1 if the execution goes on, else 0."""
        try:
            held = await self._records.hold(entry.namespace, entry.execution_id)
        except NotFound as exc:
            if now() - entry.created > _ACCEPTING_TAKES_AT_MOST:
                log.warning("marker.removed", execution_id=entry.execution_id, error_type=exc.reason)
                await self._records.forget_marker(entry)
            return 0
        except DataLoss as exc:
            log.error("record.set_aside", execution_id=entry.execution_id, error_type=exc.reason)
            await self._records.forget_marker(entry)
            return 0
        record = held.record
        if not belongs_to(entry, record.execution):
            await self._records.forget_marker(entry)
            return 0
        if self._is_at_work(entry):
            return 0
        if has_ended(record.execution):  # under the numbers that its last news had before, if they had been sent
            await self._tell(News(self._events, record.execution), record.execution)
            return 0
        record.execution.last_event_number = max(record.execution.last_event_number, record.reserved_event_number)
        if record.kind in (ExecutionRecord.ASYNCHRONOUS, ExecutionRecord.BATCH):
            self._begin(held)
            return 1
        if _deadline_passed(record):
            live = self._enlist(held)
            await self._close(
                live, Unavailable("the orchestrator ended before the execution did", reason="INTERRUPTED")
            )
            self._live.pop((entry.namespace, entry.execution_id), None)
        return 0

    async def _known(self, record: ExecutionRecord) -> Execution:
        """The execution that has the id. Raises AlreadyExists when it was asked for otherwise."""
        execution = record.execution
        held = await self._records.hold(execution.namespace, execution.execution_id)
        if held.record.request_sha256 != record.request_sha256:
            differ = ", ".join(_differences(held.record.request, record.request)) or "the request"
            raise AlreadyExists(
                f"the execution {execution.execution_id!r} was asked for with another {differ}",
                reason="EXECUTION_EXISTS",
            )
        live = self.live(execution.namespace, execution.execution_id)
        return live.execution if live is not None else held.record.execution

    async def _existing(self, record: ExecutionRecord) -> Execution:
        """The same, when it has ended."""
        namespace, execution_id = record.execution.namespace, record.execution.execution_id
        while not has_ended(known := await self._known(record)):
            live = self.live(namespace, execution_id)
            if live is None:
                await asyncio.sleep(_POLL_SECONDS)
            else:
                await live.ended.wait()
        return known


def new_record(
    request: RecordedRequest, plan: Plan, requested: Requested, kind: ExecutionRecord.Kind
) -> ExecutionRecord:
    """The record of an execution that is about to be accepted."""
    execution = new_execution(plan, requested)
    execution.input_path = request.input_path
    return ExecutionRecord(execution=execution, request=request, request_sha256=fingerprint(request), kind=kind)


def fingerprint(request: RecordedRequest) -> str:
    """What tells the same request from another."""
    return hashlib.sha256(request.SerializeToString(deterministic=True)).hexdigest()


def _deadline_passed(record: ExecutionRecord) -> bool:
    """Whether nobody can be at work any more on an execution whose caller waited."""
    timeout = record.request.pipeline.timeout.ToTimedelta() or SYNCHRONOUS.timeout
    return record.execution.create_time.ToDatetime(tzinfo=UTC) + timeout + _DEADLINE_MARGIN < now()


def _check(request: RecordedRequest, requested: Requested) -> None:
    parse_user_key(request.input_path)
    if request.output_path:
        metadata_key(parse_user_key(request.output_path))
    chosen_format(requested)


def _went_away() -> Cancelled:
    return Cancelled("the caller went away before the execution ended", reason="CLIENT_WENT_AWAY")


def _differences(known: RecordedRequest, given: RecordedRequest) -> list[str]:
    """The first few places where two requests differ."""
    a, b = dict(_leaves(MessageToDict(known))), dict(_leaves(MessageToDict(given)))
    return sorted(place for place in a.keys() | b.keys() if a.get(place) != b.get(place))[:5]


def _leaves(value: object, path: str = "") -> Iterable[tuple[str, object]]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            label = item.get("stepId", index) if isinstance(item, dict) else index
            yield from _leaves(item, f"{path}[{label}]")
    else:
        yield path, value
