"""One attempt at one step: its request, its deadline, its transport, its call, its answer checked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass
from time import perf_counter
from typing import TypeVar

import grpc
from google.protobuf.message import Message

from imageflow.v1.component_pb2 import (
    ComponentRequest,
    ComponentResponse,
    DescribeRequest,
    DescribeResponse,
    OutputOptions,
    StepContext,
    StepResult,
)
from imageflow_common.errors import DeadlineExceeded, FailedPrecondition, ImageFlowError, Unavailable
from imageflow_common.formats import RAW
from imageflow_common.rpc import channel_options
from imageflow_common.status import DETAILS_KEY, from_rpc_error
from imageflow_common.telemetry import context_to_metadata

from .catalog import Caller, LiveCatalog
from .channels import Channels
from .component_spec import Target
from .effects import StartAttempt
from .images import Artifact, ImageTransport

M = TypeVar("M", bound=Message)

_NO_TURN = nullcontext()
_DESCRIBE = "/imageflow.v1.ComponentService/Describe"


class GrpcCaller:
    """Reaches components over gRPC, balanced over all that their addresses stand for."""

    def __init__(self, max_message_bytes: int) -> None:
        self._channels = Channels(channel_options(max_message_bytes))

    async def describe(self, target: Target, request: DescribeRequest, *, timeout: float) -> DescribeResponse:
        try:
            response = await self._channels.call(target.address, _DESCRIBE, request, DescribeResponse, timeout=timeout)
        except grpc.aio.AioRpcError as exc:
            raise from_rpc_error(exc) from exc
        return _checked(response)

    async def process(
        self, target: Target, method: str, request: ComponentRequest, *, timeout: float
    ) -> ComponentResponse:
        metadata = context_to_metadata()
        try:
            response = await self._channels.call(
                target.address, method, request, ComponentResponse, timeout=timeout, metadata=metadata
            )
        except grpc.aio.AioRpcError as exc:
            raise _error_of(exc) from exc
        return _checked(response)

    async def watch(self) -> None:
        """Keeps up with replicas that come and go."""
        await self._channels.watch()

    async def close(self) -> None:
        await self._channels.close()


def _checked(response: M | None) -> M:
    """grpcio answers None for bytes that are not the message."""
    if response is None:
        raise ImageFlowError("a component answered no such message", reason="BAD_ANSWER")
    return response


def _error_of(error: grpc.aio.AioRpcError) -> ImageFlowError:
    """The component's own error; where there was no answer of its own, one that does not tell its address. What we
    cancel ourselves never comes here: a call that comes back CANCELLED was in the way of a server's end."""
    theirs = any(key == DETAILS_KEY for key, _ in error.trailing_metadata() or ())
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED) and not theirs:
        return Unavailable("the component cannot be reached", reason="COMPONENT_UNAVAILABLE")
    return from_rpc_error(error)


@dataclass(frozen=True, slots=True)
class Wanted:
    """How an attempt's image is wanted: raw for the next step, or encoded for whoever asked for the pipeline."""

    media_type: str = RAW
    quality: int = 0
    always: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What an attempt came to. `image` None: unchanged. Times are in milliseconds; `call_ms` is the whole of it as
    seen from here."""

    image: Artifact | None
    metadata: bytes
    result: StepResult
    transport: str
    call_ms: float

    @property
    def transport_ms(self) -> float:
        """On the way: what the component did not spend on waiting, decoding, computing and encoding."""
        timings = self.result.timings
        inside = timings.queue_ms + timings.decode_ms + timings.compute_ms + timings.encode_ms
        return max(0.0, self.call_ms - inside)


class StepCaller:
    """Performs attempts."""

    def __init__(self, caller: Caller, catalog: LiveCatalog, transport: ImageTransport) -> None:
        self._caller = caller
        self._catalog = catalog
        self._transport = transport
        self._turns: dict[str, asyncio.Semaphore] = {}

    async def attempt(
        self,
        start: StartAttempt,
        inputs: Sequence[Artifact],
        wanted: Wanted,
        *,
        namespace: str,
        execution_id: str,
        timeout: float,
    ) -> Answer:
        """Raises errors of the tree. Waits for its turn where the registry bounds what a target has in flight. A target
        that turns out not to see our shared memory is called again inline."""
        context = StepContext(
            namespace=namespace,
            execution_id=execution_id,
            step_id=start.step_id,
            attempt=start.attempt,
            component_version=start.call.component_version,
        )
        deadline = perf_counter() + timeout
        async with _NO_TURN if start.call.target.max_in_flight is None else self._turn(start.call.target, timeout):
            shared = self._catalog.shares_memory(start.call.target)
            try:
                return await self._once(start, inputs, wanted, context, _until(deadline), shared=shared)
            except FailedPrecondition as exc:
                if not (shared and exc.reason == "SHARED_MEMORY_MISSING"):
                    raise
            self._catalog.forget_shared_memory(start.call.target)
            return await self._once(start, inputs, wanted, context, _until(deadline), shared=False)

    @asynccontextmanager
    async def _turn(self, target: Target, timeout: float) -> AsyncIterator[None]:
        assert target.max_in_flight is not None
        turns = self._turns.setdefault(target.address, asyncio.Semaphore(target.max_in_flight))
        try:
            await asyncio.wait_for(turns.acquire(), timeout)
        except TimeoutError as exc:
            raise DeadlineExceeded(f"waited longer than {timeout:.3g} s for a turn at {target.name}") from exc
        try:
            yield
        finally:
            turns.release()

    async def _once(
        self,
        start: StartAttempt,
        inputs: Sequence[Artifact],
        wanted: Wanted,
        context: StepContext,
        timeout: float,
        *,
        shared: bool,
    ) -> Answer:
        begun = perf_counter()
        request = ComponentRequest(context=context, parameters=start.call.encoded_parameters)
        travels = self._transport.attach(request, list(inputs), shared=shared)
        name = self._transport.new_name() if shared and wanted.media_type == RAW else ""
        if shared:
            request.context.capability_name = self._transport.capability.name
            request.context.capability = self._transport.capability.secret
        request.output.CopyFrom(
            OutputOptions(
                media_type=wanted.media_type, quality=wanted.quality, always=wanted.always, shared_memory_name=name
            )
        )
        method = self._catalog.description(start.call.component_name, start.call.component_version).method
        try:
            response = await self._caller.process(start.call.target, method, request, timeout=timeout)
            image = self._transport.receive(response, expected_name=name, media_type=wanted.media_type)
        except BaseException:
            self._transport.abandon(name)
            for artifact in inputs:
                artifact.read_by_others = True
            raise
        if image is None or image.shared_name is None:
            self._transport.return_unwritten(name)
        return Answer(image, response.metadata, response.result, travels, (perf_counter() - begun) * 1e3)


def _until(deadline: float) -> float:
    """The seconds left, never none: the call itself says that time is over."""
    return max(0.001, deadline - perf_counter())
