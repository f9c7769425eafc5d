"""The real processes of a product, each of which can be killed, stopped and started again by its pid."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import grpc
import grpc.aio
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import Message

from imageflow.v1.execution_pb2 import Execution
from imageflow.v1.execution_service_pb2 import (
    CancelExecutionRequest,
    CreateExecutionRequest,
    GetExecutionRequest,
    ListExecutionsRequest,
    ListExecutionsResponse,
    RerunExecutionRequest,
)
from imageflow.v1.pipeline_pb2 import ExecutePipelineRequest
from imageflow.v1.stored_image_pb2 import StoredImage, UploadImageRequest
from imageflow_common.store_local import LocalStore

from .counted_component import FAULTS_VARIABLE, Faults
from .crashing_orchestrator import CLOCK_VARIABLE
from .ledger import LEDGER_VARIABLE, Entry, Ledger, read_ledger
from .points import COUNT_VARIABLE, POINT_VARIABLE

M = TypeVar("M", bound=Message)

TREE = Path(__file__).resolve().parents[2]
DEADLINE_SECONDS = 60.0
_ENDED = {Execution.COMPLETED, Execution.FAILED, Execution.CANCELLED}
_POLL_SECONDS = 0.02


async def eventually(
    condition: Callable[[], Any], *, within: float = DEADLINE_SECONDS, every: float = _POLL_SECONDS
) -> Any:
    """Polls until the condition holds; answers what it answered."""
    end = monotonic() + within
    while True:
        found = condition()
        if isinstance(found, Awaitable):
            found = await found
        if found:
            return found
        assert monotonic() < end, f"it did not come true within {within:g} s"
        await asyncio.sleep(every)


@dataclass(slots=True)
class Process:
    """A program that runs, and the log it writes."""

    module: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    running: asyncio.subprocess.Process | None = None
    _log_start: int = 0

    @property
    def pid(self) -> int:
        assert self.running is not None
        return self.running.pid

    @property
    def alive(self) -> bool:
        return self.running is not None and self.running.returncode is None

    async def start(self) -> None:
        with self.log.open("ab") as log:
            self._log_start = log.tell()
            self.running = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", self.module, *self.arguments),
                stdout=log,
                stderr=log,
                cwd=TREE,
                env={**_clean_environment(), **self.environment},
            )

    async def port(self, event: str) -> int:
        """The port that it says when it is ready. `event` is that of its log."""

        def ready() -> int:
            assert self.alive, self.said[-3000:]
            line = self.said.partition(f'"{event}"')[2].partition("\n")[0]
            return int(line.partition('"port": ')[2].partition("}")[0] or 0)

        port: int = await eventually(ready)
        return port

    @property
    def said(self) -> str:
        """Its log since it was started."""
        with self.log.open("rb") as file:
            file.seek(self._log_start)
            return file.read().decode(errors="replace")

    def send(self, number: signal.Signals) -> None:
        """Nothing happens when it has ended."""
        if self.alive:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def end(self, number: signal.Signals = signal.SIGKILL) -> int:
        self.send(number)
        return await self.ended()

    async def ended(self, within: float = DEADLINE_SECONDS) -> int:
        assert self.running is not None
        async with asyncio.timeout(within):
            return await self.running.wait()


@dataclass(slots=True)
class Life:
    """An orchestrator from its start to its end, and a client of it."""

    process: Process
    channel: grpc.aio.Channel

    async def create(self, body: Mapping[str, Any]) -> Execution:
        data = HttpBody(content_type="application/json", data=json.dumps(body).encode())
        return await self._call("ExecutionService/CreateExecution", CreateExecutionRequest(body=data), Execution)

    async def get(self, execution_id: str) -> Execution:
        request = GetExecutionRequest(execution_id=execution_id)
        return await self._call("ExecutionService/GetExecution", request, Execution)

    async def cancel(self, execution_id: str) -> Execution:
        request = CancelExecutionRequest(execution_id=execution_id)
        return await self._call("ExecutionService/CancelExecution", request, Execution)

    async def list_all(self) -> list[Execution]:
        found: list[Execution] = []
        token = ""
        while True:
            request = ListExecutionsRequest(page_size=1000, page_token=token)
            page = await self._call("ExecutionService/ListExecutions", request, ListExecutionsResponse)
            found += page.executions
            if not (token := page.next_page_token):
                return found

    async def execute(self, body: Mapping[str, Any]) -> Execution:
        data = HttpBody(content_type="application/json", data=json.dumps(body).encode())
        return await self._call("PipelineService/ExecutePipeline", ExecutePipelineRequest(body=data), Execution)

    async def rerun(self, execution_id: str, *, from_step: str, new_execution_id: str) -> Execution:
        request = RerunExecutionRequest(
            execution_id=execution_id, from_step=from_step, new_execution_id=new_execution_id
        )
        return await self._call("ExecutionService/RerunExecution", request, Execution)

    async def upload(self, key: str, data: bytes) -> None:
        async def parts() -> AsyncIterator[UploadImageRequest]:
            yield UploadImageRequest(key=key, body=HttpBody(content_type="image/png", data=data))

        method = self.channel.stream_unary(
            "/imageflow.v1.ImageService/UploadImage", UploadImageRequest.SerializeToString, StoredImage.FromString
        )
        await method(parts(), timeout=DEADLINE_SECONDS)

    async def until_ended(self, execution_id: str, *, within: float = DEADLINE_SECONDS) -> Execution:
        async def ended() -> Execution | None:
            execution = await self.get(execution_id)
            return execution if execution.status in _ENDED else None

        execution: Execution = await eventually(ended, within=within)
        return execution

    async def run(self, body: Mapping[str, Any], *, within: float = DEADLINE_SECONDS) -> Execution:
        accepted = await self.create(body)
        return await self.until_ended(accepted.execution_id, within=within)

    async def _call(self, method: str, request: Any, answer: type[M]) -> M:
        """Asks again for as long as the orchestrator lives and has not met its components yet."""
        call: Any = self.channel.unary_unary(
            f"/imageflow.v1.{method}", type(request).SerializeToString, answer.FromString
        )

        async def answered() -> M | None:
            try:
                response: M = await call(request, timeout=DEADLINE_SECONDS)
            except grpc.aio.AioRpcError as exc:
                if "not reachable yet" in (exc.details() or ""):
                    return None
                raise
            return response

        response: M = await eventually(answered)
        return response


@dataclass(slots=True)
class Stage:
    """The data of one product, its components, and the lives of its orchestrator."""

    folder: Path
    settings: dict[str, str] = field(default_factory=dict)
    store_root: Path | None = None
    program: str = "tests.crash.crashing_orchestrator"
    components: dict[str, Process] = field(default_factory=dict)
    orchestrator: Process | None = None

    @property
    def root(self) -> Path:
        """Of the store."""
        return self.store_root or self.folder / "store"

    @property
    def shared(self) -> Path:
        return self.folder / "shared"

    @property
    def clock(self) -> Path:
        return self.folder / "clock"

    def prepare(self) -> None:
        self.folder.mkdir(exist_ok=True)
        Ledger(self.folder / "ledger")

    def entries(self) -> list[Entry]:
        return list(read_ledger(self.folder / "ledger"))

    def fault(self, component: str, **faults: Any) -> None:
        """Gives a component faults from its next call on; none where there are no arguments."""
        file = self.folder / f"{component}.faults"
        draft = file.with_suffix(".draft")
        draft.write_text(Faults(**faults).model_dump_json())
        draft.replace(file)

    async def start_component(self, name: str) -> None:
        """On the port it had before, if it had one."""
        before = self.components.get(name)
        environment = {
            "IMAGEFLOW_SHARED_DIRECTORY": str(self.shared),
            "IMAGEFLOW_MODELS_DIRECTORY": str(TREE / "models"),
            "IMAGEFLOW_PORT": before.environment["IMAGEFLOW_PORT"] if before else "0",
            LEDGER_VARIABLE: str(self.folder / "ledger"),
            FAULTS_VARIABLE: str(self.folder / f"{name}.faults"),
        }
        process = Process("tests.crash.counted_component", (name,), environment, self.folder / f"{name}.log")
        await process.start()
        port = await process.port("component.ready")
        process.environment = {**environment, "IMAGEFLOW_PORT": str(port)}
        self.components[name] = process

    @asynccontextmanager
    async def live(self, *, point: str = "", count: int = 1) -> AsyncIterator[Life]:
        """Starts the orchestrator and, when the block is left, ends it if nothing else has."""
        environment = {
            "IMAGEFLOW_PORT": "0",
            "IMAGEFLOW_STORE_URL": f"file://{self.root}",
            "IMAGEFLOW_SHARED_DIRECTORY": str(self.shared),
            "IMAGEFLOW_REGISTRY_FILE": str(self.folder / "registry.yaml"),
            LEDGER_VARIABLE: str(self.folder / "ledger"),
            CLOCK_VARIABLE: str(self.clock),
            POINT_VARIABLE: point,
            COUNT_VARIABLE: str(count),
            **self.settings,
        }
        log = self.folder / "orchestrator.log"
        process = self.orchestrator = Process(self.program, (), environment, log)
        await process.start()
        try:
            port = await process.port("orchestrator.ready")
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
                yield Life(process, channel)
        finally:
            if process.alive:
                process.send(signal.SIGCONT)
                await process.end(signal.SIGTERM)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[LocalStore]:
        store = LocalStore(self.root, durable=False)
        try:
            yield store
        finally:
            await store.close()

    def images_in_shared_memory(self) -> list[str]:
        return [path.name for path in self.shared.iterdir() if "." in path.name]

    def write_registry(self) -> None:
        addresses = {name: process.environment["IMAGEFLOW_PORT"] for name, process in self.components.items()}
        components = {
            name: {"targets": {"default": {"address": f"127.0.0.1:{port}", "profile": "large"}}}
            for name, port in addresses.items()
        }
        (self.folder / "registry.yaml").write_text(json.dumps({"components": components}))


@asynccontextmanager
async def staged(folder: Path, *components: str, settings: Mapping[str, str] | None = None) -> AsyncIterator[Stage]:
    """A stage with these components running. Everything it started is ended, by its pid."""
    stage = Stage(folder, dict(settings or {}))
    stage.prepare()
    try:
        async with asyncio.TaskGroup() as group:
            for name in components:
                group.create_task(stage.start_component(name))
        stage.write_registry()
        yield stage
    finally:
        for process in [*stage.components.values(), stage.orchestrator]:
            if process is not None and process.alive:
                process.send(signal.SIGCONT)
                await process.end()


def _clean_environment() -> dict[str, str]:
    """Ours without what would steer the product."""
    steering = ("IMAGEFLOW_", "OTEL_", "GRPC_")
    return {name: value for name, value in os.environ.items() if not name.startswith(steering)}
