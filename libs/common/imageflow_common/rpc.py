"""gRPC as every server and client here uses it: method tables by descriptor, one place where errors become
statuses, limits, keepalive, health, reflection and an orderly end."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Literal, TypeAlias, TypeVar, cast

import grpc
import uvloop
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2
from opentelemetry import context as otel_context
from opentelemetry import trace

from .descriptors import Descriptors, prefer_generated
from .errors import DeadlineExceeded, ImageFlowError, InvalidArgument
from .logs import DEBUG_SIGNAL, USUAL_SIGNAL, EventLog, set_level_by
from .settings import ServerSettings
from .status import DETAILS_KEY, encode_details, public_message, retry_after_seconds, status_code
from .telemetry import Spans, context_from_metadata, count_failed_call

log = EventLog(__name__)

T = TypeVar("T")
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Method: TypeAlias = Callable[[Any, Context], Any]
"""`async (request, context) -> response`, or an async generator; the request of a client-streaming method is an
async iterator."""

LIVENESS = "liveness"
"""What health calls the process itself: it serves for as long as it answers, whatever else is away, until it is told to
end. Who calls may follow it, and goes elsewhere then."""

_GATEWAY = "x-imageflow-gateway"
_MARGIN_SECONDS = 0.02
_RECONNECT_MILLIS = 200
_KEEPALIVE_MILLIS = 30_000
_METADATA_BYTES = 64 * 1024  # more than the gateway lets through; gRPC by itself refuses 8 KiB as RESOURCE_EXHAUSTED


def channel_options(max_message_bytes: int) -> list[tuple[str, Any]]:
    """For clients: balance over all addresses, reconnect soon, one place for retries (ours)."""
    return [
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.lb_policy_name", "round_robin"),
        ("grpc.enable_retries", 0),
        ("grpc.initial_reconnect_backoff_ms", _RECONNECT_MILLIS),
        ("grpc.min_reconnect_backoff_ms", _RECONNECT_MILLIS),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MILLIS),
    ]


def create_server(settings: ServerSettings) -> grpc.aio.Server:
    """A server with our limits; nothing else may share its port."""
    return grpc.aio.server(
        options=[
            ("grpc.max_send_message_length", settings.max_message_bytes),
            ("grpc.max_receive_message_length", settings.max_message_bytes),
            ("grpc.so_reuseport", 0),
            ("grpc.max_metadata_size", _METADATA_BYTES),
            ("grpc.absolute_max_metadata_size", 2 * _METADATA_BYTES),
            ("grpc.http2.min_ping_interval_without_data_ms", _KEEPALIVE_MILLIS // 3),
            ("grpc.keepalive_permit_without_calls", 1),
        ]
    )


def service_handler(
    service: ServiceDescriptor,
    methods: Mapping[str, Method],
    *,
    messages: Mapping[str, type[Message]] | None = None,
    spans: Spans | None = None,
) -> grpc.GenericRpcHandler:
    """Serves `methods` of a service by name; all of its methods must be there. `messages` replaces the message
    classes of a method, given as `Method.input` and `Method.output`. Each call of a unary method is one of the `spans`,
    where there are any."""
    if set(methods) != set(service.methods_by_name):
        raise ValueError(
            f"{service.full_name} has the methods {sorted(service.methods_by_name)}, got {sorted(methods)}"
        )
    handlers = {
        name: _handler(service.methods_by_name[name], method, messages or {}, spans) for name, method in methods.items()
    }
    return grpc.method_handlers_generic_handler(service.full_name, handlers)


def _handler(
    method: MethodDescriptor, behaviour: Method, messages: Mapping[str, type[Message]], spans: Spans | None
) -> grpc.RpcMethodHandler[Any, Any]:
    request_class = messages.get(f"{method.name}.input") or GetMessageClass(prefer_generated(method.input_type))
    response_class = messages.get(f"{method.name}.output") or GetMessageClass(prefer_generated(method.output_type))
    # Also where a request is a single message: for a call that ends without one grpc.aio's unary handlers do nothing,
    # and the caller waits until its deadline.
    answers = "stream" if method.server_streaming else "unary"
    make = getattr(grpc, f"stream_{answers}_rpc_method_handler")
    read = _read_stream if method.client_streaming else _read_message
    name = f"{method.containing_service.full_name}/{method.name}"
    streams = method.server_streaming
    edge = _stream_edge(name, behaviour, read) if streams else _unary_edge(name, behaviour, read, spans)
    return cast(
        "grpc.RpcMethodHandler[Any, Any]",
        make(
            edge,
            request_deserializer=_deserializer(request_class),
            response_serializer=response_class.SerializeToString,
        ),
    )


def _deserializer(message: type[Message]) -> Callable[[bytes], Message | DecodeError]:
    """Bytes that are no such message reach the edge as an error, where they get a status."""

    def read(data: bytes) -> Message | DecodeError:
        try:
            return message.FromString(data)
        except DecodeError as exc:
            return exc

    return read


def _checked(request: Any) -> Message:
    if isinstance(request, DecodeError):
        raise InvalidArgument("the request is not such a message") from request
    return cast("Message", request)


async def _read_message(requests: AsyncIterator[Any], context: Context) -> Message:
    request = await context.read()
    if request is grpc.aio.EOF:
        raise InvalidArgument("the call has no message")
    return _checked(request)


async def _read_stream(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Message]:
    return _checked_stream(requests)


async def _checked_stream(requests: AsyncIterator[Any]) -> AsyncIterator[Message]:
    async for request in requests:
        yield _checked(request)


_Read: TypeAlias = Callable[[AsyncIterator[Any], Context], Coroutine[Any, Any, Any]]


def _unary_edge(name: str, behaviour: Method, read: _Read, spans: Spans | None) -> Method:
    made = spans if spans is not None and spans.recording else None
    attributes = {"rpc.system": "grpc", "rpc.service": name.partition("/")[0], "rpc.method": name.partition("/")[2]}

    async def edge(requests: AsyncIterator[Any], context: Context) -> Any:
        _continue_trace(context)
        if made is None:
            return await answer(requests, context)
        with made.current(name, attributes, kind=trace.SpanKind.SERVER):
            return await answer(requests, context)

    async def answer(requests: AsyncIterator[Any], context: Context) -> Any:
        start = perf_counter()
        time = asyncio.timeout(_seconds_to_answer(context))
        try:
            async with time:
                response = await behaviour(await read(requests, context), context)
        except BaseException as exc:
            await end_with(_too_late(exc) if time.expired() else exc, context, name, start)
        else:
            log.debug("rpc.finished", method=name, code="OK", milliseconds=_since(start))
            return response

    return edge


def _stream_edge(name: str, behaviour: Method, read: _Read) -> Method:
    async def edge(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        start = perf_counter()
        _continue_trace(context)
        try:
            async for response in behaviour(await read(requests, context), context):
                yield response
            log.debug("rpc.finished", method=name, code="OK", milliseconds=_since(start))
        except GeneratorExit:
            raise
        except BaseException as exc:
            await end_with(exc, context, name, start)

    return edge


def _seconds_to_answer(context: Context) -> float | None:
    """A little less than until the caller's deadline: at the deadline itself gRPC answers, and says no reason."""
    remaining = context.time_remaining()
    return None if remaining is None else remaining - min(_MARGIN_SECONDS, remaining / 10)


def _too_late(exc: BaseException) -> BaseException:
    if not isinstance(exc, TimeoutError):
        return exc
    error = DeadlineExceeded("the call did not end in the time it may take")
    error.__cause__ = exc
    return error


def _continue_trace(context: Context) -> None:
    """For the rest of the call: every call is a task of its own, whose context ends with it."""
    otel_context.attach(context_from_metadata(context.invocation_metadata()))


async def end_with(exc: BaseException, context: Context, name: str, start: float) -> None:
    """Ends an RPC with the status of an exception, in one line of the log."""
    if isinstance(exc, (asyncio.CancelledError, grpc.aio.AbortError, grpc.aio.UsageError)):
        log.info("rpc.cancelled", method=name, milliseconds=_since(start))
        raise exc
    error = exc if isinstance(exc, ImageFlowError) else ImageFlowError()
    internal = error.code in ("INTERNAL", "UNKNOWN", "DATA_LOSS")
    (log.error if internal else log.info)(
        "rpc.failed",
        method=name,
        code=error.code,
        error_type=error.reason,
        **_told_of(error),
        milliseconds=_since(start),
        **({"exc_info": exc} if internal and not _says_all(exc) else {}),
    )
    count_failed_call(name, error)
    trailing: list[tuple[str, str | bytes]] = [(DETAILS_KEY, encode_details(error))]
    if (seconds := retry_after_seconds(error)) is not None:
        trailing.append(("retry-after", seconds))
    _let_go(exc)
    try:
        await context.abort(status_code(error), public_message(error), tuple(trailing))
    except grpc.aio.InternalError:  # the caller's deadline was first, and gRPC does not know it yet: nobody is told
        raise asyncio.CancelledError from None


def _told_of(error: ImageFlowError) -> dict[str, Any]:
    """What the log says besides. What is wrong with a request is told in its caller's own words, which may be a secret
    in the wrong place: of that only where it stands."""
    if error.code == "INVALID_ARGUMENT":
        return {"fields": [violation.field for violation in error.violations[:10]]}
    return {"error": error.message}


def _says_all(exc: BaseException) -> bool:
    """Whether where it was raised tells nothing more: it has a reason of its own, and nothing behind it."""
    return isinstance(exc, ImageFlowError) and exc.reason != ImageFlowError.reason and exc.__cause__ is None


def _let_go(exc: BaseException) -> None:
    """Empties the frames that an exception has come through. gRPC keeps what `abort` raises, which keeps those frames,
    which keep the call that keeps it: a cycle that lives until the collector comes, with the call's images in it."""
    chain: BaseException | None = exc
    while chain is not None:
        traceback.clear_frames(chain.__traceback__)
        chain = chain.__cause__ or chain.__context__


def _since(start: float) -> float:
    return round((perf_counter() - start) * 1e3, 2)


def came_through_gateway(context: Context) -> bool:
    """Whether the gateway passed this call on: it says so of each, and callers cannot unsay it."""
    return any(key == _GATEWAY for key, _ in context.invocation_metadata() or ())


def time_remaining(context: Context, at_most: float) -> float:
    """Seconds until the call's deadline, or `at_most` if that is nearer."""
    remaining = context.time_remaining()
    return at_most if remaining is None else min(remaining, at_most)


@asynccontextmanager
async def deadline(seconds: float) -> AsyncIterator[None]:
    """Raises DeadlineExceeded when the block takes longer."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as exc:
        raise DeadlineExceeded(f"took longer than {seconds:.3g} s") from exc


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that serves. `stop` ends it in order: not serving, drain, running calls finish, closed."""

    server: grpc.aio.Server
    port: int
    health: health.aio.HealthServicer
    settings: ServerSettings

    async def stop(self) -> None:
        await self.health.enter_graceful_shutdown()
        await asyncio.sleep(self.settings.drain_seconds)
        await self.server.stop(self.settings.shutdown_grace_seconds)


async def start_server(
    settings: ServerSettings,
    handlers: Sequence[grpc.GenericRpcHandler],
    *,
    service_names: Sequence[str],
    descriptors: Descriptors,
    described: Sequence[str] = (),
    ready: bool = True,
) -> RunningServer:
    """Starts serving, with health (NOT_SERVING at first, unless it is `ready`) and reflection, which also tells of the
    services `described` that others serve. Raises OSError when the port is taken."""
    server = create_server(settings)
    server.add_generic_rpc_handlers(tuple(handlers))
    status = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    names = [*dict.fromkeys([*service_names, *described]), health.SERVICE_NAME, reflection.SERVICE_NAME]
    reflection.enable_server_reflection(names, server, pool=_with_health(descriptors))
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    address = f"{host}:{settings.port}"
    try:
        port = server.add_insecure_port(address)
    except RuntimeError as exc:
        raise OSError(f"cannot listen on {address}: is the port taken?") from exc
    gc.freeze()  # what a server is made of stays: the collector need not look at it again and again
    await server.start()
    response = health_pb2.HealthCheckResponse
    await status.set(LIVENESS, response.SERVING)
    for name in ("", *service_names):
        await status.set(name, response.SERVING if ready else response.NOT_SERVING)
    return RunningServer(server, port, status, settings)


def _with_health(descriptors: Descriptors) -> Any:
    """The pool with the health and reflection services' own files, so that reflection can describe them."""
    for module in (health_pb2, reflection_pb2):
        file = FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(file)
        descriptors.pool.Add(file)
    return descriptors.pool


def wait_for_signal() -> asyncio.Future[Literal["SIGINT", "SIGTERM"]]:
    """The first signal to end, from this call on; a second one ends the process at once with status 130. From now on
    the signals that change what is logged do so, too."""
    loop = asyncio.get_running_loop()
    received: asyncio.Future[Literal["SIGINT", "SIGTERM"]] = loop.create_future()

    def on_signal(name: Literal["SIGINT", "SIGTERM"]) -> None:
        if received.done():
            os._exit(130)
        received.set_result(name)

    for name in ("SIGINT", "SIGTERM"):
        loop.add_signal_handler(getattr(signal, name), on_signal, name)
    for number in (DEBUG_SIGNAL, USUAL_SIGNAL):
        loop.add_signal_handler(number, set_level_by, number)
    return received


def run(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Runs a server's main coroutine on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main())
