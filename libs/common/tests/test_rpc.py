"""gRPC between real ends: errors, limits, deadlines, health and reflection."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from imageflow_common import health
from imageflow_common.descriptors import Descriptors
from imageflow_common.errors import (
    DeadlineExceeded,
    ImageFlowError,
    InvalidParameters,
    NotFound,
    Overloaded,
    Violation,
)
from imageflow_common.rpc import (
    LIVENESS,
    Context,
    RunningServer,
    channel_options,
    deadline,
    service_handler,
    start_server,
    time_remaining,
)
from imageflow_common.settings import ServerSettings
from imageflow_common.status import DETAILS_KEY, from_rpc_error

MAX_MESSAGE_BYTES = 100_000
PROTO = """
message Note { string text = 1; }
// Says it back.
service EchoService {
  rpc Say(Note) returns (Note);
  rpc Split(Note) returns (stream Note);
  rpc Join(stream Note) returns (Note);
  rpc Chat(stream Note) returns (stream Note);
}"""


class Echo:
    """Answers, or does what `behave` says about a text."""

    def __init__(self, note: Any) -> None:
        self.note = note
        self.behave: Callable[[str, Context], Any] | None = None
        self.events: list[str] = []

    async def say(self, request: Any, context: Context) -> Any:
        await self._behave(request.text, context)
        return request

    async def split(self, request: Any, context: Context) -> AsyncIterator[Any]:
        try:
            for word in request.text.split():
                await self._behave(word, context)
                yield self.note(text=word)
        finally:
            self.events.append("ended")

    async def join(self, requests: AsyncIterator[Any], context: Context) -> Any:
        return self.note(text=" ".join([request.text async for request in requests]))

    async def chat(self, requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        async for request in requests:
            await self._behave(request.text, context)
            yield request

    async def _behave(self, text: str, context: Context) -> None:
        if self.behave is not None:
            await self.behave(text, context)


class Ends:
    """A server that echoes, and a client of it."""

    def __init__(self, echo: Echo, server: RunningServer, channel: grpc.aio.Channel) -> None:
        self.echo, self.server, self.channel = echo, server, channel

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server.port}"

    def method(self, name: str, *, raw: bool = False) -> Any:
        kind = {"Say": "unary_unary", "Split": "unary_stream", "Join": "stream_unary", "Chat": "stream_stream"}[name]
        note = self.echo.note
        serializer = None if raw else note.SerializeToString
        make = getattr(self.channel, kind)
        return make(
            f"/acme.v1.EchoService/{name}", request_serializer=serializer, response_deserializer=note.FromString
        )


@pytest.fixture
async def ends(compile_proto: Callable[[str], Descriptors]) -> AsyncIterator[Ends]:
    async with _serving(compile_proto(PROTO)) as served:
        yield served


@asynccontextmanager
async def _serving(descriptors: Descriptors, **settings: Any) -> AsyncIterator[Ends]:
    from google.protobuf.message_factory import GetMessageClass

    echo = Echo(GetMessageClass(descriptors.message("acme.v1.Note")))
    service = descriptors.service("acme.v1.EchoService")
    methods = {"Say": echo.say, "Split": echo.split, "Join": echo.join, "Chat": echo.chat}
    server = await start_server(
        ServerSettings(port=0, max_message_bytes=MAX_MESSAGE_BYTES, **settings),
        [service_handler(service, methods)],
        service_names=[service.full_name],
        descriptors=descriptors,
    )
    channel = grpc.aio.insecure_channel(f"127.0.0.1:{server.port}", channel_options(10 * MAX_MESSAGE_BYTES))
    try:
        async with channel:
            yield Ends(echo, server, channel)
    finally:
        await server.server.stop(0)


async def _error_of(call: Any) -> ImageFlowError:
    """How a call ends, as the caller's exception."""
    try:
        if hasattr(call, "__aiter__"):
            _ = [response async for response in call]
        else:
            await call
    except grpc.aio.AioRpcError as exc:
        return from_rpc_error(exc)
    pytest.fail("the call succeeded")


def _raising(error: BaseException) -> Callable[[str, Context], Any]:
    async def behave(text: str, context: Context) -> None:
        raise error

    return behave


async def _notes(ends: Ends, *texts: str) -> AsyncIterator[Any]:
    for text in texts:
        yield ends.echo.note(text=text)


async def test_all_four_kinds_of_call_answer(ends: Ends) -> None:
    note = ends.echo.note
    assert (await ends.method("Say")(note(text="a"), timeout=5)).text == "a"
    assert [each.text async for each in ends.method("Split")(note(text="a b"), timeout=5)] == ["a", "b"]
    assert (await ends.method("Join")(_notes(ends, "a", "b"), timeout=5)).text == "a b"
    assert [each.text async for each in ends.method("Chat")(_notes(ends, "a", "b"), timeout=5)] == ["a", "b"]


@pytest.mark.parametrize("kind", ["Say", "Split", "Chat"])
async def test_an_error_arrives_with_all_its_details(ends: Ends, kind: str) -> None:
    given = InvalidParameters("two faults", violations=[Violation("a", "b"), Violation("c", "d")])
    ends.echo.behave = _raising(given)
    request = _notes(ends, "x") if kind == "Chat" else ends.echo.note(text="x")
    error = await _error_of(ends.method(kind)(request, timeout=5))
    assert type(error) is InvalidParameters
    assert (error.message, error.violations) == (given.message, given.violations)


class Pixels:
    """Something large that a call works on."""


@pytest.mark.parametrize("kind", ["Say", "Split"])
async def test_what_a_failed_call_held_is_freed_without_the_collector(ends: Ends, kind: str) -> None:
    """A cycle would keep every refused image until the collector comes: gigabytes, when nothing else happens."""
    held: list[weakref.ref[Any]] = []

    async def behave(text: str, context: Context) -> None:
        pixels = Pixels()
        held.append(weakref.ref(pixels))
        try:
            raise ValueError(pixels.__doc__)
        except ValueError as exc:
            raise NotFound("no such pixels") from exc

    ends.echo.behave = behave
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            assert isinstance(await _error_of(ends.method(kind)(ends.echo.note(text="x"), timeout=5)), NotFound)
        await asyncio.sleep(0)
        assert [reference() for reference in held] == [None] * 3
    finally:
        gc.enable()


async def test_an_overload_says_when_to_come_back_twice(ends: Ends) -> None:
    ends.echo.behave = _raising(Overloaded("full", retry_after=timedelta(milliseconds=200)))
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ends.method("Say")(ends.echo.note(), timeout=5)
    assert from_rpc_error(raised.value).retry_after == timedelta(milliseconds=200)
    assert dict(raised.value.trailing_metadata() or ())["retry-after"] == "1"


async def test_responses_before_an_error_arrive(ends: Ends) -> None:
    async def second_fails(text: str, context: Context) -> None:
        if text == "b":
            raise NotFound("no b")

    ends.echo.behave = second_fails
    call = ends.method("Split")(ends.echo.note(text="a b"), timeout=5)
    assert (await call.read()).text == "a"
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call.read()
    assert type(from_rpc_error(raised.value)) is NotFound


async def test_a_fault_of_ours_tells_nothing_of_us(ends: Ends) -> None:
    ends.echo.behave = _raising(RuntimeError("/a/path/of/ours"))
    error = await _error_of(ends.method("Say")(ends.echo.note(), timeout=5))
    assert (error.code, error.message) == ("INTERNAL", "internal error")


@pytest.mark.parametrize("text", ["é" * 5_000, "two\nlines", "half \ud800"])
async def test_a_message_of_any_text_arrives_as_an_error(ends: Ends, text: str) -> None:
    ends.echo.behave = _raising(NotFound(text, violations=[Violation(text, text)] * 100))
    error = await _error_of(ends.method("Say")(ends.echo.note(), timeout=5))
    assert type(error) is NotFound
    assert error.message[:4] == text[:4]


@pytest.mark.parametrize("kind", ["Say", "Split", "Join", "Chat"])
async def test_bytes_that_are_no_message_are_an_invalid_argument(ends: Ends, kind: str) -> None:
    async def garbage() -> AsyncIterator[bytes]:
        yield b"\xff\xff"

    request = garbage() if kind in ("Join", "Chat") else b"\xff\xff"
    error = await _error_of(ends.method(kind, raw=True)(request, timeout=5))
    assert (error.code, error.message) == ("INVALID_ARGUMENT", "the request is not such a message")


async def test_a_request_past_the_limit_is_refused_and_not_worth_a_retry(ends: Ends) -> None:
    error = await _error_of(ends.method("Say")(ends.echo.note(text="x" * MAX_MESSAGE_BYTES), timeout=5))
    assert (error.reason, error.retryable) == ("MESSAGE_TOO_LARGE", False)
    assert (await ends.method("Say")(ends.echo.note(text="x" * (MAX_MESSAGE_BYTES - 100)), timeout=5)).text


async def test_an_unknown_method_is_unimplemented(ends: Ends) -> None:
    shout: Any = ends.channel.unary_unary("/acme.v1.EchoService/Shout")
    error = await _error_of(shout(b"", timeout=5))
    assert error.code == "UNIMPLEMENTED"


async def test_the_callers_deadline_is_known_and_kept(ends: Ends) -> None:
    seen: list[float] = []

    async def wait(text: str, context: Context) -> None:
        seen.append(time_remaining(context, 60.0))
        async with deadline(min(seen[0], 0.05)):
            await asyncio.Event().wait()

    ends.echo.behave = wait
    for timeout in (30, None):
        assert type(await _error_of(ends.method("Say")(ends.echo.note(), timeout=timeout))) is DeadlineExceeded
    assert 10 < seen[0] < 31
    assert seen[1] == 60.0


async def test_a_call_past_its_deadline_is_a_deadline_exceeded(ends: Ends) -> None:
    async def wait(text: str, context: Context) -> None:
        await asyncio.Event().wait()

    ends.echo.behave = wait
    assert type(await _error_of(ends.method("Say")(ends.echo.note(), timeout=0.05))) is DeadlineExceeded


async def test_a_deadline_that_passes_at_the_server_has_its_reason(ends: Ends) -> None:
    """gRPC's own answer would have none. The client waits longer than it says, so that it is the server who ends."""

    async def wait(text: str, context: Context) -> None:
        await asyncio.Event().wait()

    ends.echo.behave = wait
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ends.method("Say")(ends.echo.note(), metadata=(("grpc-timeout", "300m"),))
    assert DETAILS_KEY in dict(raised.value.trailing_metadata() or ())
    assert from_rpc_error(raised.value).reason == "DEADLINE_EXCEEDED"


async def test_a_call_that_ends_as_its_deadline_passes_is_no_fault_of_ours(
    ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    """Some of these end before they have come, some while they are answered."""
    call: Any = ends.channel.stream_unary("/acme.v1.EchoService/Say")
    for _ in range(40):
        codes = await asyncio.gather(*(_code_without_message(call, (10 + i) * 1e-4) for i in range(40)))
        assert set(codes) <= {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


async def _code_without_message(call: Any, timeout: float) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call(timeout=timeout)
    return raised.value.code()


@pytest.mark.parametrize("kind", ["Say", "Split"])
async def test_a_call_that_ends_without_its_message_is_an_invalid_argument(ends: Ends, kind: str) -> None:
    make = ends.channel.stream_unary if kind == "Say" else ends.channel.stream_stream
    call: Any = make(f"/acme.v1.EchoService/{kind}")
    error = await _error_of(call(_notes(ends), timeout=5))
    assert (error.code, error.message) == ("INVALID_ARGUMENT", "the call has no message")


@pytest.mark.parametrize("kind", ["Say", "Split"])
async def test_a_client_that_goes_away_cancels_the_call(
    ends: Ends, kind: str, eventually: Any, caplog: pytest.LogCaptureFixture
) -> None:
    events: list[str] = []

    async def wait(text: str, context: Context) -> None:
        events.append("started")
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            events.append("cancelled")
            raise

    ends.echo.behave = wait
    call = ends.method(kind)(ends.echo.note(text="a"), timeout=30)
    reading = asyncio.ensure_future(call.read() if kind == "Split" else call)
    await eventually(lambda: events == ["started"])
    call.cancel()
    await eventually(lambda: events == ["started", "cancelled"])
    await asyncio.gather(reading, return_exceptions=True)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_client_that_goes_away_between_responses_ends_the_stream(
    ends: Ends, eventually: Any, caplog: pytest.LogCaptureFixture
) -> None:
    call = ends.method("Split")(ends.echo.note(text="a " * 30_000), timeout=30)
    assert (await call.read()).text == "a"
    call.cancel()
    await eventually(lambda: ends.echo.events == ["ended"])
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


def test_a_service_needs_all_its_methods(compile_proto: Callable[[str], Descriptors]) -> None:
    service = compile_proto(PROTO).service("acme.v1.EchoService")
    with pytest.raises(ValueError, match="Chat"):
        service_handler(service, {"Say": lambda request, context: request})


async def test_a_port_that_is_taken_is_said(compile_proto: Callable[[str], Descriptors], ends: Ends) -> None:
    settings = ServerSettings(port=ends.server.port)
    with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{ends.server.port}: is the port taken\?"):
        await start_server(settings, [], service_names=[], descriptors=compile_proto(PROTO))


async def test_an_ipv6_address_can_be_listened_on(compile_proto: Callable[[str], Descriptors]) -> None:
    try:
        server = await start_server(
            ServerSettings(port=0, host="::1"), [], service_names=[], descriptors=compile_proto(PROTO)
        )
    except OSError:
        pytest.skip("no IPv6 here")
    assert await asyncio.to_thread(health.check, f"[::1]:{server.port}") == "SERVING"
    await server.stop()


async def test_health_is_told_for_the_server_and_each_service(ends: Ends) -> None:
    stub = health_pb2_grpc.HealthStub(ends.channel)
    for name in ("", "acme.v1.EchoService", LIVENESS):
        response = await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)
        assert response.status == health_pb2.HealthCheckResponse.SERVING
    assert (await _error_of(stub.Check(health_pb2.HealthCheckRequest(service="other"), timeout=5))).code == "NOT_FOUND"


async def test_the_health_command_says_how_it_is(ends: Ends) -> None:
    assert await asyncio.to_thread(health.check, ends.address) == "SERVING"
    assert await asyncio.to_thread(health.check, "127.0.0.1:1", timeout=0.3) in ("UNAVAILABLE", "DEADLINE_EXCEEDED")


async def test_the_health_commands_status_tells_containers(ends: Ends) -> None:
    for arguments, status in (([ends.address], 0), (["127.0.0.1:1"], 1), ([], 1)):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "imageflow_common.health", *arguments, stderr=asyncio.subprocess.PIPE
        )
        _, said = await process.communicate()
        assert (process.returncode, bool(said)) == (status, bool(status))


async def test_reflection_describes_the_service_with_its_imports(ends: Ends) -> None:
    def ask() -> tuple[list[str], Any]:
        with grpc.insecure_channel(ends.address) as channel:
            database = ProtoReflectionDescriptorDatabase(channel)
            return list(database.get_services()), DescriptorPool(database).FindServiceByName("acme.v1.EchoService")

    services, service = await asyncio.to_thread(ask)
    assert set(services) == {"acme.v1.EchoService", "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert service.methods_by_name["Split"].output_type.full_name == "acme.v1.Note"


async def _state(ends: Ends) -> str:
    """What a new connection is told."""
    return await asyncio.to_thread(health.check, ends.address)


async def test_stopping_says_not_serving_drains_and_lets_running_calls_finish(
    compile_proto: Callable[[str], Descriptors],
) -> None:
    started, finish = asyncio.Event(), asyncio.Event()

    async def wait(text: str, context: Context) -> None:
        started.set()
        await finish.wait()

    async with _serving(compile_proto(PROTO), drain_seconds=0.5) as ends:
        ends.echo.behave = wait
        running = asyncio.ensure_future(ends.method("Say")(ends.echo.note(text="late"), timeout=20))
        await started.wait()
        stopping = asyncio.ensure_future(ends.server.stop())
        states = [await _state(ends)]
        while states[-1] == "NOT_SERVING":
            states.append(await _state(ends))
        assert (states[0], states[-1]) == ("NOT_SERVING", "UNAVAILABLE")
        finish.set()
        assert (await running).text == "late"
        await stopping


async def test_what_outlives_the_grace_is_unavailable_or_cancelled(
    compile_proto: Callable[[str], Descriptors],
) -> None:
    started = asyncio.Event()

    async def wait(text: str, context: Context) -> None:
        started.set()
        await asyncio.Event().wait()

    async with _serving(compile_proto(PROTO), shutdown_grace_seconds=0.05) as ends:
        ends.echo.behave = wait
        running = asyncio.ensure_future(_error_of(ends.method("Say")(ends.echo.note(), timeout=20)))
        await started.wait()
        await ends.server.stop()
        assert (await running).code in ("UNAVAILABLE", "CANCELLED")
