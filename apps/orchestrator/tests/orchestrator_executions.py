"""Executions over a store in a directory, with scripted components: built as often as a test wants, so that one may
crash and the next one take up what it left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from orchestrator_scripted import JPEG, Bench, bench, step

from imageflow.v1.execution_pb2 import Execution
from imageflow.v1.pipeline_pb2 import Pipeline
from imageflow.v1.record_pb2 import ExecutionRecord, RecordedRequest
from imageflow_common.errors import NotFound, Unavailable
from imageflow_common.events import Event, LocalEvents
from imageflow_common.store import ObjectInfo, ObjectKey
from imageflow_common.store_local import LocalStore
from imageflow_orchestrator.admission import Admission
from imageflow_orchestrator.api_executions import ExecutionApi
from imageflow_orchestrator.claim import new_record
from imageflow_orchestrator.definitions import Definitions
from imageflow_orchestrator.engine import Engine, Requested
from imageflow_orchestrator.executions import Executions
from imageflow_orchestrator.janitor import Janitor
from imageflow_orchestrator.json_body import parse_body
from imageflow_orchestrator.messages import read_values
from imageflow_orchestrator.news import COMPLETION_TOPIC, PROGRESS_TOPIC
from imageflow_orchestrator.planned import ASYNCHRONOUS, SYNCHRONOUS
from imageflow_orchestrator.planner import Planner
from imageflow_orchestrator.records import Records, has_ended
from imageflow_orchestrator.rerun import Reruns
from imageflow_orchestrator.run import Instruments
from imageflow_orchestrator.watch import Watcher

ENDED = ("completed", "failed", "cancelled")


class FailingStore(LocalStore):
    """Fails to write what `refuses` is part of, holds up what `holds` is part of once it is written. After
    `dies_after` writes the process is dead to it: nothing is written or read any more, nor does it answer; the last
    write happens if `dies_late`. `fails_at` is the write that alone fails, after it happened if `fails_late`; with
    `fails_on`, so many calls after it, of any kind, fail too."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, durable=False)
        self.refuses: Mapping[str, Exception] = {}
        self.holds = "\0"
        self.writes = 0
        self.dies_after: int | None = None
        self.dies_late = False
        self.fails_at: tuple[int, Exception] | None = None
        self.fails_late = False
        self.fails_on = self.away = 0
        self.dead = asyncio.Event()

    async def put(self, key: ObjectKey, *args: Any, **options: Any) -> ObjectInfo:
        for part, error in self.refuses.items():
            if part in key:
                raise error
        async with self._counted():
            info = await super().put(key, *args, **options)
        if self.holds in key:
            await asyncio.Event().wait()
        return info

    async def delete(self, key: ObjectKey, **options: Any) -> None:
        async with self._counted():
            await super().delete(key, **options)

    async def get(self, key: ObjectKey) -> Any:
        await self._alive()
        return await super().get(key)

    async def head(self, key: ObjectKey) -> Any:
        await self._alive()
        return await super().head(key)

    async def list(self, *args: Any, **options: Any) -> Any:
        await self._alive()
        return await super().list(*args, **options)

    @asynccontextmanager
    async def _counted(self) -> AsyncIterator[None]:
        await self._alive()
        self.writes += 1
        number = self.writes
        last = self.dies_after is not None and number >= self.dies_after
        fails = self.fails_at is not None and number == self.fails_at[0]
        self.away = self.fails_on if fails else self.away
        if last:
            self.dead.set()
        if last and not (self.dies_late and number == self.dies_after):
            await asyncio.Event().wait()
        if fails and not self.fails_late:
            raise self.fails_at[1]  # type: ignore[index]
        yield
        if last:
            await asyncio.Event().wait()
        if fails:
            raise self.fails_at[1]  # type: ignore[index]

    async def _alive(self) -> None:
        if self.dead.is_set():
            await asyncio.Event().wait()
        if self.away:
            self.away -= 1
            raise Unavailable("still gone")


@dataclass(slots=True)
class Site:
    """An orchestrator without servers."""

    at: Bench
    store: FailingStore
    records: Records
    events: LocalEvents
    engine: Engine
    planner: Planner
    executions: Executions
    watcher: Watcher
    reruns: Reruns
    janitor: Janitor
    api: ExecutionApi
    told: list[Event] = field(default_factory=list)

    def request(self, *steps: Mapping[str, Any], **fields: Any) -> RecordedRequest:
        """A request to run these steps over `in.jpg`."""
        definition = {"pipelineId": "p", "version": "1", "steps": list(steps or (step("a"),))}
        definition |= {name: fields.pop(name) for name in ("timeout", "failFast", "outputStep") if name in fields}
        message, faults = parse_body(json.dumps(definition).encode(), Pipeline)
        assert not faults
        return RecordedRequest(pipeline=message, **{"input_path": "in.jpg", **fields})

    async def execute(
        self, request: RecordedRequest, execution_id: str = "e", namespace: str = "default", **requested: Any
    ) -> Execution:
        """For a caller who waits."""
        plan = self.planner.given(request.pipeline, read_values(request.overrides), defaults=SYNCHRONOUS)
        return await self.executions.execute(
            request, plan, Requested(namespace=namespace, execution_id=execution_id, **requested)
        )

    async def accept(self, request: RecordedRequest, execution_id: str = "e", namespace: str = "default") -> Execution:
        plan = self.planner.given(request.pipeline, read_values(request.overrides), defaults=ASYNCHRONOUS)
        kind = ExecutionRecord.BATCH if request.HasField("batch") else ExecutionRecord.ASYNCHRONOUS
        requested = Requested(namespace=namespace, execution_id=execution_id)
        return await self.executions.accept(new_record(request, plan, requested, kind))

    async def rerun(self, execution_id: str = "e", from_step: str = "", new_id: str = "r", **overrides: Any) -> Any:
        from google.protobuf.json_format import ParseDict
        from google.protobuf.struct_pb2 import Value

        values = {name.replace("__", "."): ParseDict(value, Value()) for name, value in overrides.items()}
        return await self.executions.accept(
            await self.reruns.prepare(
                "default", execution_id, from_step=from_step, overrides=values, new_execution_id=new_id
            )
        )

    async def ended(self, execution_id: str = "e", namespace: str = "default") -> Execution:
        """The execution when its record says that it has ended and its news are sent."""

        async def done() -> bool:
            if self.executions.live(namespace, execution_id) is not None:
                return False
            try:
                return has_ended(await self.records.get(namespace, execution_id))
            except NotFound:
                return False

        await until(done)
        return await self.record(execution_id, namespace)

    async def record(self, execution_id: str = "e", namespace: str = "default") -> Execution:
        return await self.records.get(namespace, execution_id)

    async def keys(self, prefix: str = "artifacts/") -> list[str]:
        return [item.key for item in (await self.store.list(prefix)).items]

    async def markers(self) -> list[str]:
        return await self.keys(".imageflow/pending/")

    def completions(self, execution_id: str = "e") -> list[dict[str, Any]]:
        return [body(each) for each in self.told if each.topic == COMPLETION_TOPIC and each.key == execution_id]

    def states(self, step_id: str = "", execution_id: str = "e") -> list[str]:
        """What was told of a step, or of the execution itself."""
        said = [body(each) for each in self.told if each.topic == PROGRESS_TOPIC and each.key == execution_id]
        return [each["status"] for each in said if each["step_id"] == step_id]


def body(event: Event) -> dict[str, Any]:
    return dict(json.loads(event.body))


class RecordedEvents(LocalEvents):
    """Keeps all that is published, across every orchestrator of a test."""

    def __init__(self, told: list[Event], **options: Any) -> None:
        super().__init__(**options)
        self._told = told

    async def publish(self, event: Event) -> None:
        self._told.append(event)
        await super().publish(event)


async def until(holds: Callable[[], Awaitable[object]], *, within: float = 10.0) -> None:
    """As `eventually`, for what has to be awaited."""
    async with asyncio.timeout(within):
        while not await holds():  # noqa: ASYNC110 - it asks the store
            await asyncio.sleep(0.002)


@asynccontextmanager
async def site(
    directory: Path,
    *,
    told: list[Event] | None = None,
    max_running: int = 4,
    max_per_namespace: int | None = None,
    max_waiting: int = 200,
    max_pending: int = 1_000,
    retention: timedelta = timedelta(hours=1),
    queue_size: int = 256,
    script: Mapping[str, Sequence[Any]] | None = None,
    holds_queue: bool = True,
    instruments: Instruments | None = None,
) -> AsyncIterator[Site]:
    """Over `directory`."""
    told = told if told is not None else []
    shared = directory / "shared"
    shared.mkdir(parents=True, exist_ok=True)
    store = FailingStore(directory / "store")
    if not (await store.list("in.jpg")).items:
        await store.put(ObjectKey("in.jpg"), JPEG, media_type="image/jpeg")
    store.writes = 0
    async with bench(shared) as at:
        at.caller.script = {name: list(does) for name, does in (script or {}).items()}
        records, events = Records(store), RecordedEvents(told, queue_size=queue_size)
        engine = Engine(
            catalog=at.catalog,
            caller=at.step_caller,
            transport=at.transport,
            admission=Admission(
                max_running=max_running, max_waiting=max_waiting, max_running_per_namespace=max_per_namespace
            ),
            instruments=instruments or Instruments(),
            max_image_bytes=1_000,
            records=records,
            process_records="failed",
        )
        planner = Planner(at.catalog, Definitions(store))
        executions = Executions(
            engine=engine,
            planner=planner,
            store=store,
            records=records,
            events=events,
            max_pending=max_pending,
            retention=retention,
        )
        if holds_queue:
            executions.hold_queue()
        watcher, reruns = Watcher(executions, events), Reruns(planner, store, records)
        yield Site(
            at,
            store,
            records,
            events,
            engine,
            planner,
            executions,
            watcher,
            reruns,
            Janitor(store, records, retention=retention, period=timedelta(hours=1)),
            ExecutionApi(executions, records, planner, reruns, watcher),
            told,
        )
        if not store.dead.is_set():
            await executions.stop(0.5)
    await store.close()


async def crash() -> None:
    """The process is gone: no task goes on, and none has time to clean up."""
    me = asyncio.current_task()
    while tasks := [task for task in asyncio.all_tasks() if task is not me]:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=0.02)
