"""One call to the gateway over gRPC, and its errors as ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import grpc
import grpc.aio

from imageflow_common.errors import DeadlineExceeded, ImageFlowError, Unavailable
from imageflow_common.status import DETAILS_KEY, from_rpc_error

from .exits import ServerUnreachable, UsageFault

if TYPE_CHECKING:
    from google.protobuf.message import Message

M = TypeVar("M", bound="Message")

MAX_MESSAGE_BYTES: Final = 256 * 1024 * 1024


def open_channel(url: str) -> grpc.aio.Channel:
    """A channel to `http://host:port`, `https://…` or a bare `host:port`. Raises UsageFault for anything else."""
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise UsageFault(f"{url} is not a URL of a gateway, such as http://127.0.0.1:8080")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    target = f"{host}:{_port(url, parts.port, parts.scheme)}"
    options: list[tuple[str, Any]] = [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.enable_retries", 0),
    ]
    if parts.scheme == "https":
        return grpc.aio.secure_channel(target, grpc.ssl_channel_credentials(), options=options)
    return grpc.aio.insecure_channel(target, options=options)


async def call(channel: grpc.aio.Channel, method: str, request: Message, response: type[M], timeout: float) -> M:
    """Raises the ImageFlowError that the server raised, or ServerUnreachable."""
    multicallable: Any = channel.unary_unary(
        path(method), request_serializer=type(request).SerializeToString, response_deserializer=response.FromString
    )
    async with as_our_errors():
        answer: M = await multicallable(request, timeout=timeout)
        return answer


async def send_stream(
    channel: grpc.aio.Channel, method: str, requests: AsyncIterator[Message], response: type[M], timeout: float
) -> M:
    """A client-streaming call. Raises as `call` does."""
    multicallable: Any = channel.stream_unary(
        path(method),
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=response.FromString,
    )
    async with as_our_errors():
        answer: M = await multicallable(requests, timeout=timeout)
        return answer


async def receive_stream(
    channel: grpc.aio.Channel, method: str, request: Message, response: type[M], silence: float
) -> AsyncIterator[M]:
    """A server-streaming call of any length, given up after `silence` seconds without a message. Raises as `call`
    does, and DeadlineExceeded."""
    multicallable: Any = channel.unary_stream(
        path(method), request_serializer=type(request).SerializeToString, response_deserializer=response.FromString
    )
    running = multicallable(request)
    try:
        async with as_our_errors():
            while (message := await asyncio.wait_for(running.read(), silence)) is not grpc.aio.EOF:
                yield message
    except TimeoutError as exc:
        raise DeadlineExceeded(f"nothing came for {silence:.3g} s") from exc
    finally:
        running.cancel()


@asynccontextmanager
async def as_our_errors() -> AsyncIterator[None]:
    """Turns a failed call's error into ours."""
    try:
        yield
    except grpc.aio.AioRpcError as exc:
        raise _our_error(exc) from exc


def path(method: str) -> str:
    return f"/imageflow.v1.{method}"


def _our_error(error: grpc.aio.AioRpcError) -> ImageFlowError:
    """Without our details nobody of ours answered."""
    ours = any(key == DETAILS_KEY for key, _ in error.trailing_metadata() or ())
    if error.code() is grpc.StatusCode.UNAVAILABLE and not ours:
        return ServerUnreachable(f"no server answers: {error.details()}")
    if error.code() is grpc.StatusCode.INTERNAL and not ours:  # a stream that was reset
        return Unavailable(f"the connection broke: {error.details()}", reason="CONNECTION_BROKEN")
    return from_rpc_error(error)


def _port(url: str, port: int | None, scheme: str) -> int:
    return port or (443 if scheme == "https" else 80)
