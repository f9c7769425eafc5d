"""Waits until what was started answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from .web import http_get

if TYPE_CHECKING:
    import grpc.aio

_POLL_SECONDS = 0.05
_CALL_SECONDS = 2.0
_SERVING = b"\x08\x01"
"""grpc.health.v1.HealthCheckResponse { status: SERVING }, serialised."""


def _bytes(data: bytes) -> bytes:
    return data


async def is_serving(channel: grpc.aio.Channel) -> bool:
    """Whether the server behind a channel says that it serves."""
    import grpc

    check = channel.unary_unary("/grpc.health.v1.Health/Check", request_serializer=_bytes, response_deserializer=_bytes)
    try:
        answer = await check(b"", timeout=_CALL_SECONDS)
    except grpc.aio.AioRpcError:
        return False
    return bool(answer == _SERVING)


async def wait_serving(address: str) -> None:
    """Waits until the gRPC server at `host:port` says that it serves."""
    import grpc.aio

    options = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 50)]
    options += [("grpc.max_reconnect_backoff_ms", 100), ("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        await _until(lambda: is_serving(channel))


async def check_health(address: str) -> bool:
    """Whether the gRPC server at `host:port` says that it serves, now."""
    import grpc.aio

    async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        return await is_serving(channel)


async def wait_http_ok(url: str) -> None:
    """Waits until a GET answers 200."""

    async def ok() -> bool:
        return (await http_get(url)).status == 200

    await _until(ok)


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    task = asyncio.current_task()
    while not await condition():
        if task is not None and task.cancelling():
            raise asyncio.CancelledError  # grpc.aio loses one that comes while a call fails
        await asyncio.sleep(_POLL_SECONDS)
