"""The orchestrator and its components as servers on free ports, in this process, over a store of their own."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import grpc
import numpy as np
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from imageflow.v1.component_pb2 import ComponentRequest, ComponentResponse
from imageflow.v1.filter_pb2 import FilterMetadata, FilterParameters
from imageflow_common.component import Component, Result, component
from imageflow_common.descriptors import own_descriptors
from imageflow_common.errors import ImageFlowError
from imageflow_common.images import encode
from imageflow_common.kafka_settings import KafkaSettings
from imageflow_common.pixels import Pixels
from imageflow_common.rpc import channel_options, service_handler, start_server
from imageflow_common.serve import ComponentServer
from imageflow_common.settings import ComponentSettings
from imageflow_common.shared import SharedDirectory
from imageflow_common.status import from_rpc_error
from imageflow_detect.app import build as build_detect
from imageflow_detect.backend import OnnxBackend
from imageflow_detect.detect import Detector
from imageflow_detect.models import ModelRepository
from imageflow_filter.app import filter_pixels
from imageflow_orchestrator.app import WITHOUT_KAFKA, Orchestrator, build
from imageflow_orchestrator.settings import OrchestratorSettings
from imageflow_resize.app import resize

M = TypeVar("M", bound=Message)

_MODELS = Path(__file__).parents[3] / "models"
_MAX_MESSAGE_BYTES = 256 * 1024 * 1024


class Lock:
    """What the `wait` component waits for."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()


def waiting(lock: Lock) -> Component:
    @component(name="wait", service="imageflow.v1.FilterService")
    def wait(image: Pixels, parameters: FilterParameters) -> Result:
        """Waits until it may go on."""
        lock.entered.set()
        lock.opened.wait(20)
        return Result(image, FilterMetadata())

    return wait


@cache
def _detect() -> Component:
    return build_detect(Detector(ModelRepository(_MODELS), OnnxBackend()))


@dataclass(slots=True)
class Served:
    """A client of a served orchestrator. Errors come back as exceptions of the tree."""

    channel: grpc.aio.Channel
    port: int
    lock: Lock
    shared: Path
    orchestrator: Orchestrator
    initial_metadata: dict[str, str | bytes] = field(default_factory=dict)

    async def call(
        self, method: str, request: Message | None = None, *, metadata: Sequence[tuple[str, str]] = (), **fields: Any
    ) -> Any:
        """`method` is such as `PipelineService/GetPipeline`; `fields` are its request's."""
        done = self.start(method, request, metadata=metadata, **fields)
        try:
            answer = await done
            self.initial_metadata = dict(await done.initial_metadata())
            return answer
        except grpc.aio.AioRpcError as exc:
            raise from_rpc_error(exc) from exc

    def start(
        self, method: str, request: Message | None = None, *, metadata: Sequence[tuple[str, str]] = (), **fields: Any
    ) -> Any:
        service, _, name = method.partition("/")
        described = own_descriptors().service(f"imageflow.v1.{service}").methods_by_name[name]
        make: Any = self.channel.unary_unary(
            f"/imageflow.v1.{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=_generated(described.output_type.full_name).FromString,
        )
        asked = request if request is not None else _generated(described.input_type.full_name)(**fields)
        return make(asked, timeout=30, metadata=tuple(metadata))

    async def json(self, method: str, document: object) -> Any:
        """As the gateway hands a JSON body over."""
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        return await self.call(method, body=HttpBody(content_type="application/json", data=data))

    async def upload(self, key: str, data: bytes, media_type: str = "image/png") -> None:
        from imageflow.v1.stored_image_pb2 import StoredImage, UploadImageRequest

        async def parts() -> AsyncIterator[UploadImageRequest]:
            yield UploadImageRequest(key=key, body=HttpBody(content_type=media_type, data=data))

        method = self.channel.stream_unary(
            "/imageflow.v1.ImageService/UploadImage", UploadImageRequest.SerializeToString, StoredImage.FromString
        )
        await method(parts(), timeout=30)

    def files(self) -> list[str]:
        """The images in shared memory that somebody may read."""
        found = {path.name for path in self.shared.iterdir()} - self.orchestrator.engine.transport.unused_names
        return [name for name in found if "." in name]


def _generated(full_name: str) -> Any:
    from google.protobuf import descriptor_pool

    import imageflow.v1.catalog_pb2
    import imageflow.v1.execution_pb2
    import imageflow.v1.pipeline_pb2
    import imageflow.v1.stored_image_pb2
    import imageflow.v1.system_pb2  # noqa: F401 - they register their messages

    return GetMessageClass(descriptor_pool.Default().FindMessageTypeByName(full_name))


@asynccontextmanager
async def component_served(served: Component, shared: Path) -> AsyncIterator[int]:
    """The port of a component that serves."""
    settings = ComponentSettings(port=0, shared_directory=shared, shutdown_grace_seconds=0.1)
    directory = SharedDirectory(shared)
    server = ComponentServer(served, settings, directory)
    describe = own_descriptors().service("imageflow.v1.ComponentService")
    process = served.descriptors.service(served.service_name)
    envelope: Any = {"Process.input": ComponentRequest, "Process.output": ComponentResponse}
    running = await start_server(
        settings,
        [
            service_handler(describe, {"Describe": server.describe}),
            service_handler(process, {"Process": server.process}, messages=envelope),
        ],
        service_names=[process.full_name, describe.full_name],
        descriptors=served.descriptors,
    )
    try:
        yield running.port
    finally:
        await running.stop()
        server.close()
        directory.close()


@asynccontextmanager
async def served(tmp_path: Path, kafka: KafkaSettings = WITHOUT_KAFKA, **settings: Any) -> AsyncIterator[Served]:
    """The orchestrator with resize, filter, detect, and `wait`, which waits. With a broker it takes its share of what
    is accepted."""
    lock, shared = Lock(), tmp_path / "shared"
    components = {"resize": resize, "filter": filter_pixels, "detect": _detect(), "wait": waiting(lock)}
    async with AsyncExitStack() as stack:
        stack.callback(lock.opened.set)
        ports = {
            name: await stack.enter_async_context(component_served(each, shared)) for name, each in components.items()
        }
        registry = tmp_path / "registry.yaml"
        registry.write_text(_registry(ports))
        chosen = OrchestratorSettings(
            **{
                "port": 0,
                "store_url": f"file://{tmp_path / 'store'}",
                "registry_file": registry,
                "shared_directory": shared,
                "shutdown_grace_seconds": 0.2,
                **settings,
            }
        )
        orchestrator = await stack.enter_async_context(build(chosen, kafka))
        stack.callback(asyncio.create_task(orchestrator.engine.transport.remove_unused()).cancel)
        await orchestrator.catalog.refresh()
        own = own_descriptors()
        running = await start_server(
            chosen,
            orchestrator.handlers,
            service_names=orchestrator.service_names,
            descriptors=own,
            described=own.service_names(),
        )
        stack.push_async_callback(running.stop)
        if orchestrator.shared_queue is not None:
            await stack.enter_async_context(_at_work(orchestrator))
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{running.port}", channel_options(_MAX_MESSAGE_BYTES))
        await stack.enter_async_context(channel)
        yield Served(channel, running.port, lock, shared, orchestrator)


@asynccontextmanager
async def _at_work(orchestrator: Orchestrator) -> AsyncIterator[None]:
    assert orchestrator.shared_queue is not None
    sharing = asyncio.create_task(orchestrator.shared_queue.run())
    try:
        yield
    finally:
        await orchestrator.executions.stop(5)
        sharing.cancel()
        await asyncio.gather(sharing, return_exceptions=True)


def _registry(ports: Mapping[str, int]) -> str:
    aliases = {"detect": ["ai_detection", "ai-detection", "object-detection"]}
    return json.dumps(
        {
            "components": {
                name: {
                    "aliases": aliases.get(name, []),
                    "targets": {"default": {"address": f"127.0.0.1:{port}", "profile": "large"}},
                }
                for name, port in ports.items()
            }
        }
    )


def picture(width: int = 320, height: int = 240, media_type: str = "image/png") -> bytes:
    """A gradient."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    array = np.stack([x % 256, y % 256, (x + y) % 256], axis=-1).astype(np.uint8)
    return encode(Pixels(array), media_type=media_type)


async def refused(attempt: Callable[[], Any]) -> ImageFlowError:
    """The error that an attempt raises."""
    try:
        await attempt()
    except ImageFlowError as exc:
        return exc
    raise AssertionError("it was not refused")
