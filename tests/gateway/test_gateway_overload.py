"""Callers that stand still, trickle or do not read do no harm to others at the gateway."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.gateway.answers import reason

if TYPE_CHECKING:
    from tests.gateway.conftest import Backend, Eventually, Gateway, RunGateway

pytestmark = pytest.mark.asyncio(loop_scope="session")

MIB = 1024 * 1024


async def test_uploads_that_stand_still_do_not_shut_out_everybody(
    backend: Backend, run_gateway: RunGateway, tmp_path: Path, eventually: Eventually
) -> None:
    """What they make the gateway hold ends soon when memory is short, and others are told to come back."""

    def small(config: str) -> str:
        return config.replace("335544320", str(96 * MIB)).replace("min_timeout: 15s", "min_timeout: 1s")

    async def stand_still(port: int) -> asyncio.StreamWriter:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST /v1/pipelines/p:process HTTP/1.1\r\nhost: g\r\ncontent-length: {60 * MIB}\r\n\r\n"
        writer.write(head.encode() + bytes(50 * MIB))
        return writer

    async with run_gateway(tmp_path, edit=small, orchestrator=[backend.endpoint]) as gateway:
        writers = [await stand_still(gateway.port) for _ in range(3)]
        seen: list[httpx.Response] = []

        async def last_is(status: int) -> bool:
            async with httpx.AsyncClient(base_url=gateway.url, timeout=5) as client:
                seen.append(await client.get("/healthz"))
            return seen[-1].status_code == status

        await eventually(lambda: last_is(429))
        assert reason(seen[-1]) == "OVERLOADED"
        assert seen[-1].headers["retry-after"] == "1"
        await eventually(lambda: last_is(200))
        for writer in writers:
            writer.close()


async def test_uploads_that_trickle_do_not_get_around_the_limit_of_memory(
    backend: Backend, run_gateway: RunGateway, tmp_path: Path, eventually: Eventually
) -> None:
    """They are never idle. Past the limit some of those who send end, until there is room."""

    def small(config: str) -> str:
        return config.replace("335544320", str(96 * MIB)).replace("scaling_threshold: 0.078", "scaling_threshold: 0.02")

    async def trickle(port: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        head = f"POST /v1/pipelines/p:process HTTP/1.1\r\nhost: g\r\ncontent-length: {60 * MIB}\r\n\r\n"
        writer.write(head.encode() + bytes(40 * MIB))
        with suppress(ConnectionError):
            while not writer.is_closing():
                await writer.drain()
                await asyncio.sleep(0.01)
                writer.write(b"x")

    async with run_gateway(tmp_path, edit=small, orchestrator=[backend.endpoint]) as gateway:
        trickling = [asyncio.create_task(trickle(gateway.port)) for _ in range(4)]
        await eventually(lambda: any(each.done() for each in trickling))

        async def serves() -> bool:
            async with httpx.AsyncClient(base_url=gateway.url, timeout=5) as client:
                return (await client.get("/healthz")).status_code == 200

        await eventually(serves)
        assert not all(each.done() for each in trickling)
        for each in trickling:
            each.cancel()


async def test_callers_that_do_not_read_do_not_hold_up_the_answers_to_others(
    gateway: Gateway, client: httpx.AsyncClient, backend: Backend, eventually: Eventually
) -> None:
    async def endless(request: Any, context: Any) -> AsyncIterator[Any]:
        while True:
            yield backend.message("google.api.HttpBody")(content_type="image/png", data=bytes(MIB))

    backend.answers["ImageService/DownloadImage"] = endless
    idle = [await _ask_and_not_read(gateway.port) for _ in range(40)]
    try:
        await eventually(lambda: len(backend.calls) == len(idle))
        await asyncio.sleep(1)  # long enough to fill what there is to fill
        assert (await client.get("/healthz", timeout=5)).status_code == 200
    finally:
        for asking in idle:
            asking.close()


async def _ask_and_not_read(port: int) -> socket.socket:
    asking = socket.socket()
    asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    asking.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(asking, ("127.0.0.1", port))
    await loop.sock_sendall(asking, b"GET /v1/images/k HTTP/1.1\r\nhost: g\r\n\r\n")
    return asking
