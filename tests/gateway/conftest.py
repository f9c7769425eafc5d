"""A real Envoy with gateway/envoy.yaml before a gRPC server that answers as each test says."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, TypeAlias

import httpx
import pytest
import pytest_asyncio
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from imageflow_cli.gateway import Endpoint, LocalAddresses, envoy_command, local_config
from imageflow_common.descriptors import Descriptors, load_descriptors
from imageflow_common.protos import DESCRIPTOR_SET
from imageflow_common.rpc import Context, Method, RunningServer, service_handler, start_server
from imageflow_common.settings import ServerSettings

DEADLINE_SECONDS = 20.0


async def _eventually(check: Callable[[], bool | Awaitable[bool]]) -> None:
    """Polls until `check` holds. Fails after DEADLINE_SECONDS."""
    end = monotonic() + DEADLINE_SECONDS
    while True:
        holds = check()
        if holds if isinstance(holds, bool) else await holds:
            return
        if monotonic() > end:
            pytest.fail(f"not in {DEADLINE_SECONDS:.0f} s")
        await asyncio.sleep(0.02)


@dataclass(slots=True)
class Call:
    """One RPC as the backend saw it: its messages so far and its metadata."""

    method: str
    requests: list[Any]
    metadata: dict[str, str | bytes]
    seconds_left: float | None


@dataclass(slots=True)
class Backend:
    """Every service of imageflow.v1. A method answers an empty message unless `answers` has something for it."""

    descriptors: Descriptors = field(default_factory=lambda: load_descriptors(DESCRIPTOR_SET))
    answers: dict[str, Method] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    server: RunningServer | None = None

    @property
    def endpoint(self) -> Endpoint:
        assert self.server is not None
        return Endpoint("127.0.0.1", self.server.port)

    @property
    def last(self) -> Call:
        return self.calls[-1]

    def message(self, name: str) -> type[Message]:
        """A message class of imageflow.v1, or by its full name."""
        full_name = name if "." in name else f"imageflow.v1.{name}"
        return GetMessageClass(self.descriptors.message(full_name))

    async def start(self) -> None:
        names = [name for name in self.descriptors.service_names() if name.startswith("imageflow.")]
        handlers = [
            service_handler(service, {name: self._method(service.name, name) for name in service.methods_by_name})
            for service in map(self.descriptors.service, names)
        ]
        self.server = await start_server(
            ServerSettings(port=0, shutdown_grace_seconds=0.1),
            handlers,
            service_names=names,
            descriptors=self.descriptors,
        )

    async def stop(self) -> None:
        if self.server is not None:
            await self.server.stop()
            self.server = None

    def _method(self, service: str, name: str) -> Method:
        method = self.descriptors.service(f"imageflow.v1.{service}").methods_by_name[name]
        answer_class = GetMessageClass(method.output_type)
        key = f"{service}/{name}"

        async def begin(request: Any, context: Context) -> Call:
            metadata = dict(context.invocation_metadata() or ())
            call = Call(key, [], metadata, context.time_remaining())
            self.calls.append(call)
            if not method.client_streaming:
                call.requests.append(request)
            return call

        async def unary(request: Any, context: Context) -> Any:
            call = await begin(request, context)
            if method.client_streaming:
                async for part in request:
                    call.requests.append(part)
            answer = self.answers.get(key)
            return await answer(request, context) if answer else answer_class()

        async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
            await begin(request, context)
            answer = self.answers.get(key)
            if answer:
                async for part in answer(request, context):
                    yield part

        return stream if method.server_streaming else unary


@dataclass(frozen=True, slots=True)
class Gateway:
    """An Envoy that runs."""

    port: int
    status_port: int
    admin_socket: Path
    output: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def access_log(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.output.read_text().splitlines() if line.startswith("{")]

    async def admin(self, path: str) -> str:
        transport = httpx.AsyncHTTPTransport(uds=str(self.admin_socket))
        async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
            return (await client.get(path)).text


@asynccontextmanager
async def _run_gateway(
    folder: Path, *, edit: Callable[[str], str] = lambda text: text, **services: Sequence[Endpoint]
) -> AsyncIterator[Gateway]:
    """Runs an Envoy on free ports until it is ready, ends it by its pid."""
    with tempfile.TemporaryDirectory(prefix="gw-") as short:
        admin_socket = Path(short) / "admin"
        anywhere = Endpoint("127.0.0.1", 0)
        addresses = LocalAddresses(services, gateway=anywhere, status=anywhere, admin_socket=admin_socket)
        config, output = folder / "envoy.yaml", folder / "output"
        config.write_text(edit(local_config(addresses)))
        with output.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                *envoy_command(config, concurrency=1), stdout=out, stderr=asyncio.subprocess.STDOUT
            )
        try:
            ports = await _bound_ports(process, admin_socket, output)
            yield Gateway(ports["gateway"], ports["status"], admin_socket, output)
        finally:
            if process.returncode is None:
                process.terminate()
            await asyncio.wait_for(process.wait(), DEADLINE_SECONDS)


async def _bound_ports(process: asyncio.subprocess.Process, admin_socket: Path, output: Path) -> dict[str, int]:
    ports: dict[str, int] = {}

    async def ready() -> bool:
        if process.returncode is not None:
            pytest.fail(f"Envoy ended with {process.returncode}, see {output}")
        transport = httpx.AsyncHTTPTransport(uds=str(admin_socket))
        async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
            try:
                if (await client.get("/ready")).status_code != 200:
                    return False
                listeners = (await client.get("/listeners?format=json")).json()["listener_statuses"]
            except httpx.TransportError:
                return False
        for listener in listeners:
            ports[listener["name"]] = listener["local_address"]["socket_address"]["port_value"]
        return True

    await _eventually(ready)
    return ports


Eventually: TypeAlias = Callable[[Callable[[], bool | Awaitable[bool]]], Awaitable[None]]
RunGateway: TypeAlias = Callable[..., AbstractAsyncContextManager[Gateway]]


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared_backend() -> AsyncIterator[Backend]:
    backend = Backend()
    await backend.start()
    yield backend
    await backend.stop()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def gateway(shared_backend: Backend, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    """Serves everything from the backend but `filter`, of which there is no replica."""
    here = [shared_backend.endpoint]
    async with _run_gateway(tmp_path_factory.mktemp("gateway"), orchestrator=here, resize=here, detect=here) as running:
        yield running


@pytest.fixture
def backend(shared_backend: Backend) -> Backend:
    shared_backend.answers.clear()
    shared_backend.calls.clear()
    return shared_backend


@pytest_asyncio.fixture(loop_scope="session")
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=gateway.url, timeout=DEADLINE_SECONDS) as http:
        yield http


@pytest.fixture
def eventually() -> Eventually:
    return _eventually


@pytest.fixture
def new_backend() -> type[Backend]:
    return Backend


@pytest.fixture
def run_gateway() -> RunGateway:
    return _run_gateway
