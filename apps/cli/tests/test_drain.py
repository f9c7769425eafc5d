"""How a gateway is let go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from imageflow_cli.drain import NotDrained, drain_gateway


@asynccontextmanager
async def admin(socket: Path, active: list[int], status: str = "200 OK") -> AsyncIterator[list[str]]:
    """An admin interface with this many requests in flight, one figure an answer, the last for ever."""
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")[0]
        asked.append(" ".join(request.split()[:2]))
        count = active.pop(0) if "stats" in request and len(active) > 1 else active[0]
        body = f"http.gateway.downstream_rq_active: {count}\n"
        writer.write(f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_unix_server(answer, socket):
        yield asked


async def test_it_fails_its_health_check_and_drains_until_nothing_is_in_flight(tmp_path: Path) -> None:
    async with admin(tmp_path / "admin.sock", [2, 1, 0]) as asked:
        await drain_gateway(tmp_path / "admin.sock", within_seconds=10)
    assert asked[:2] == ["POST /healthcheck/fail", "POST /drain_listeners?graceful&skip_exit"]
    assert len(asked) == 5


async def test_it_does_not_wait_for_ever(tmp_path: Path) -> None:
    async with admin(tmp_path / "admin.sock", [1]):
        with pytest.raises(NotDrained, match=r"still in flight after 0\.2 s"):
            await drain_gateway(tmp_path / "admin.sock", within_seconds=0.2)


async def test_a_refusal_is_not_taken_for_silence(tmp_path: Path) -> None:
    async with admin(tmp_path / "admin.sock", [0], "426 Upgrade Required"):
        with pytest.raises(NotDrained, match="answered 426 to /healthcheck/fail"):
            await drain_gateway(tmp_path / "admin.sock", within_seconds=5)


async def test_a_gateway_that_is_gone_has_nothing_in_flight(tmp_path: Path) -> None:
    await drain_gateway(tmp_path / "admin.sock", within_seconds=1)
