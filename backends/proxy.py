"""A TCP proxy on loopback that does to connections what networks do."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

_CHUNK_BYTES = 64 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(slots=True)
class Weather:
    """What befalls what is sent from now on, in connections old and new."""

    latency_seconds: float = 0.0
    """Before each piece, in either direction."""
    swallows_requests: bool = False
    """What clients send arrives nowhere, and nobody says so."""
    ends_requests_after_bytes: int | None = None
    """Once: what a client sends in a connection ends there for the server, which may still answer."""
    swallows_answers: bool = False
    """What servers answer arrives nowhere: half of the connection is open."""
    resets_after_bytes: int | None = None
    """A connection is reset when so much was answered in it."""


class TcpProxy:
    """`async with TcpProxy(port) as proxy:` and connect to `proxy.port`."""

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._connections: set[asyncio.Task[None]] = set()
        self.weather = Weather()
        self.accepted = 0
        self.port = 0

    async def __aenter__(self) -> TcpProxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        await self.reset_all()

    async def reset_all(self) -> None:
        """Resets every connection that there is."""
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            upstream, downstream = await asyncio.open_connection("127.0.0.1", self._to_port)
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._requests(reader, downstream))
                    both.create_task(self._answers(upstream, writer))
            finally:
                _reset(downstream)
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            _reset(writer)
            self._connections.discard(task)

    async def _requests(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        asked, ended = 0, False
        while data := await reader.read(_CHUNK_BYTES):
            await asyncio.sleep(self.weather.latency_seconds)
            asked += len(data)
            limit = self.weather.ends_requests_after_bytes
            if limit is not None and asked > limit:
                self.weather.ends_requests_after_bytes, ended = None, True
                to.write_eof()
            if ended:
                continue
            if not self.weather.swallows_requests:
                to.write(data)
                await to.drain()
        raise ConnectionResetError

    async def _answers(self, reader: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        answered = 0
        while data := await reader.read(_CHUNK_BYTES):
            await asyncio.sleep(self.weather.latency_seconds)
            answered += len(data)
            limit = self.weather.resets_after_bytes
            if limit is not None and answered > limit:
                raise ConnectionResetError
            if not self.weather.swallows_answers:
                to.write(data)
                await to.drain()
        raise ConnectionResetError


def _reset(writer: asyncio.StreamWriter) -> None:
    """Closes with RST: whoever still writes is told so."""
    with suppress(OSError):
        found: socket.socket | None = writer.get_extra_info("socket")
        if found is not None:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    writer.close()
