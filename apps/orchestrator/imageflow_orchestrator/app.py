"""Builds the orchestrator from its settings, and runs it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import grpc

from imageflow_common.allocator import giving_back_freed_memory, keep_freed_memory
from imageflow_common.descriptors import own_descriptors
from imageflow_common.errors import ImageFlowError, InvalidArgument
from imageflow_common.events import Events, LocalEvents
from imageflow_common.kafka_settings import KafkaSettings
from imageflow_common.logs import EventLog, configure_logs
from imageflow_common.rpc import RunningServer, run, service_handler, start_server, wait_for_signal
from imageflow_common.settings import load_settings
from imageflow_common.settings_live import LiveSettings
from imageflow_common.shared import SharedDirectory
from imageflow_common.store_observed import ObservedStore
from imageflow_common.telemetry import configure_telemetry

from .admission import Admission
from .api import PipelineApi
from .api_catalog import CatalogApi, SystemApi
from .api_executions import ExecutionApi
from .api_images import ImageApi
from .api_stream import ExecutionStreamApi
from .call import GrpcCaller, StepCaller
from .catalog import LiveCatalog
from .definitions import Definitions
from .dependencies import Dependencies
from .engine import Engine
from .executions import Executions
from .images import ImageTransport
from .janitor import Janitor
from .planner import Planner
from .queue_lock import QueueHold, hold_queue
from .records import Records
from .recycled import RecycledFiles
from .registry import Registry, parse_registry
from .requests import Requests
from .rerun import Reruns
from .run import Instruments
from .settings import OrchestratorSettings
from .shared_queue import SharedQueue
from .stores import open_store, queue_hold
from .watch import Watcher

if TYPE_CHECKING:
    from .bus import KafkaBus

log = EventLog(__name__)

SERVICE = "orchestrator"
_UNTRACED = {"imageflow.v1.SystemService"}
"""Asked again and again, by those who watch over this."""
_RECYCLED_BYTES = 64 * 1024 * 1024
_RECYCLED_SECONDS = 2.0
VERSION = version("imageflow-orchestrator")
WITHOUT_KAFKA = KafkaSettings.model_construct()


@dataclass(frozen=True, slots=True)
class Orchestrator:
    """Everything built, nothing listening yet."""

    caller: GrpcCaller
    catalog: LiveCatalog
    dependencies: Dependencies
    engine: Engine
    executions: Executions
    queue: QueueHold
    shared_queue: SharedQueue | None
    """Where there is a broker; else one orchestrator of all on the store has `queue`."""
    janitor: Janitor
    settings: LiveSettings[OrchestratorSettings]
    handlers: list[grpc.GenericRpcHandler]
    service_names: list[str]


def load_registry(path: Path | None) -> Registry:
    """The registry in a file, or the one that comes with the orchestrator. Raises InvalidArgument, OSError."""
    if path is None:
        return parse_registry(files(__package__).joinpath("registry.yaml").read_text(), path="registry.yaml")
    return parse_registry(path.read_text(), path=path.name)


def open_bus(kafka: KafkaSettings) -> KafkaBus | None:
    """The broker, where one is configured: then kafka-python is needed. Raises InvalidArgument."""
    if not kafka.bootstrap_servers:
        return None
    try:
        from .bus import KafkaBus
    except ModuleNotFoundError as exc:
        raise InvalidArgument("Kafka is configured, but imageflow-common[kafka] is not installed") from exc
    return KafkaBus(kafka)


@asynccontextmanager
async def build(settings: OrchestratorSettings, kafka: KafkaSettings = WITHOUT_KAFKA) -> AsyncIterator[Orchestrator]:
    """Builds the orchestrator; lets go of everything afterwards."""
    registry = load_registry(settings.registry_file)
    store = ObservedStore(await open_store(settings))
    transport = ImageTransport(
        SharedDirectory(settings.shared_directory) if settings.shared_directory else None,
        RecycledFiles(_RECYCLED_BYTES, _RECYCLED_SECONDS),
    )
    caller = GrpcCaller(settings.max_message_bytes)
    catalog = LiveCatalog(registry, caller, transport.capability)
    queue = queue_hold(settings, store)
    definitions, records = Definitions(store), Records(store)
    planner = Planner(catalog, definitions)
    instruments = Instruments()
    engine = Engine(
        records=records,
        catalog=catalog,
        caller=StepCaller(caller, catalog, transport),
        transport=transport,
        admission=Admission(**_bounds(settings)),
        instruments=instruments,
        max_image_bytes=settings.max_image_bytes,
        process_records=settings.process_records,
    )
    bus = open_bus(kafka)
    events: Events = bus.events if bus is not None else LocalEvents()
    retention = timedelta(hours=settings.retention_hours)
    executions = Executions(
        engine=engine,
        planner=planner,
        store=store,
        records=records,
        events=events,
        max_pending=settings.max_pending_executions,
        retention=retention,
    )

    def change(changed: OrchestratorSettings) -> None:
        engine.admission.change(**_bounds(changed))
        executions.max_pending = changed.max_pending_executions

    live = LiveSettings(settings, change)
    instruments.measures.watch(engine.admission, executions.backlog, bus.queue if bus else None)
    janitor = Janitor(store, records, retention=retention, period=timedelta(seconds=settings.janitor_period_seconds))
    shared = None
    if bus is not None:
        requests = Requests(
            bus.queue,
            executions=executions,
            planner=planner,
            records=records,
            events=events,
            at_once=kafka.max_in_flight,
        )
        shared = SharedQueue(bus.queue, bus.prepare, executions, requests, events)
    degraded = [store.degraded, live.degraded, *([bus.degraded] if bus is not None else [])]
    dependencies = Dependencies(catalog, store, bus.degraded if bus is not None else None, live)
    reruns, watcher = Reruns(planner, store, records), Watcher(executions, events)
    services: dict[str, Any] = {
        "PipelineService": PipelineApi(engine, executions, planner, definitions, catalog),
        "ExecutionService": ExecutionApi(executions, records, planner, reruns, watcher),
        "ExecutionStreamService": ExecutionStreamApi(watcher),
        "ImageService": ImageApi(store, settings.max_upload_bytes),
        "CatalogService": CatalogApi(catalog, planner, engine),
        "SystemService": SystemApi(catalog, dependencies, VERSION, degraded),
    }
    own = own_descriptors()
    names = {f"imageflow.v1.{name}": service for name, service in services.items()}
    handlers = [
        service_handler(own.service(name), service.methods(), spans=None if name in _UNTRACED else instruments.spans)
        for name, service in names.items()
    ]
    async with AsyncExitStack() as closing:
        closing.push_async_callback(store.close)
        closing.callback(transport.close)
        closing.push_async_callback(caller.close)
        closing.push_async_callback(events.close if bus is None else bus.close)
        closing.push_async_callback(queue.let_go)  # when nothing runs any more
        yield Orchestrator(
            caller, catalog, dependencies, engine, executions, queue, shared, janitor, live, handlers, list(names)
        )


class _Bounds(TypedDict):
    max_running: int
    max_waiting: int
    max_running_per_namespace: int
    max_bytes: int


def _bounds(settings: OrchestratorSettings) -> _Bounds:
    return _Bounds(
        max_running=settings.max_running_executions,
        max_waiting=settings.max_waiting_executions,
        max_running_per_namespace=settings.max_running_executions_per_namespace,
        max_bytes=settings.max_bytes_in_flight,
    )


async def serve(settings: OrchestratorSettings, kafka: KafkaSettings = WITHOUT_KAFKA) -> None:
    """Serves until SIGTERM or SIGINT, then ends in order. Raises OSError when the port is taken."""
    end = asyncio.ensure_future(wait_for_signal())
    async with giving_back_freed_memory(), build(settings, kafka) as orchestrator:
        running = await _start(orchestrator, settings)
        async with orchestrator.settings.watched(), asyncio.TaskGroup() as background:
            watching = [
                background.create_task(orchestrator.catalog.watch()),
                background.create_task(orchestrator.caller.watch()),
                background.create_task(orchestrator.dependencies.watch()),
                background.create_task(watch_registry(orchestrator.catalog, settings)),
                background.create_task(orchestrator.janitor.run()),
                background.create_task(orchestrator.engine.transport.remove_unused()),
            ]
            queue = background.create_task(_begin_what_is_accepted(orchestrator))
            log.info("orchestrator.ready", port=running.port, version=VERSION)
            try:
                await end
            finally:
                await asyncio.gather(running.stop(), orchestrator.executions.stop(settings.shutdown_grace_seconds))
                queue.cancel()
                for task in watching:
                    task.cancel()
                log.info("orchestrator.stopped")


async def _begin_what_is_accepted(orchestrator: Orchestrator) -> None:
    if orchestrator.shared_queue is not None:
        await orchestrator.shared_queue.run()
    else:
        await hold_queue(orchestrator.executions, orchestrator.queue)


async def _start(orchestrator: Orchestrator, settings: OrchestratorSettings) -> RunningServer:
    """Reflection describes the components' services too: the gateway sends all reflection here."""
    own = own_descriptors()
    return await start_server(
        settings,
        orchestrator.handlers,
        service_names=[*orchestrator.service_names],
        descriptors=own,
        described=own.service_names(),
    )


async def watch_registry(catalog: LiveCatalog, settings: OrchestratorSettings) -> None:
    """Takes over a changed registry file; one with faults, or none, is logged once, readiness says so, and the old one
    stays."""
    path = settings.registry_file
    if path is None:
        return
    seen = taken = path.read_bytes()
    while True:
        await asyncio.sleep(settings.registry_poll_seconds)
        try:
            data = await asyncio.to_thread(path.read_bytes)
            before, seen = seen, data
            if data == taken:
                catalog.registry_fault = ""
            if data in (taken, before):
                continue
            catalog.replace_registry(parse_registry(data.decode(), path=path.name))
            taken, catalog.registry_fault = data, ""
            log.info("registry.reloaded")
            await catalog.refresh()
        except Exception as exc:
            if str(exc) != catalog.registry_fault:
                _log_refused(exc)
            catalog.registry_fault = str(exc)


def _log_refused(error: Exception) -> None:
    violations = error.violations if isinstance(error, ImageFlowError) else ()
    log.error(
        "registry.refused",
        error_type=type(error).__name__,
        error=str(error),
        violations=[f"{violation.field}: {violation.description}" for violation in violations],
    )


def main() -> None:
    """The orchestrator's main program. `--version` as its only argument prints that."""
    if sys.argv[1:] == ["--version"]:
        print(SERVICE, VERSION)
        return
    settings, kafka = load_settings(OrchestratorSettings), load_settings(KafkaSettings)
    keep_freed_memory()
    configure_logs(service=SERVICE, version=VERSION, style=settings.log_format, level=settings.log_level)
    flush = configure_telemetry(service=SERVICE, version=VERSION)
    try:
        run(lambda: serve(settings, kafka))
    except (OSError, ImageFlowError) as exc:
        print(f"{SERVICE}: {exc}", file=sys.stderr)
        for violation in getattr(exc, "violations", ()):
            print(f"  {violation.field}: {violation.description}", file=sys.stderr)
        raise SystemExit(1) from exc
    finally:
        flush()
