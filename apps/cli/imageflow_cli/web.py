"""HTTP requests, as few as the command makes."""

from __future__ import annotations

import asyncio
import http.client
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

_TIMEOUT_SECONDS = 2.0
_MOST_BYTES = 64 * 1024 * 1024
_LONGEST_SECONDS = 30.0
"""For all of an answer: one that trickles is never silent for long."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What a request came to; status 0: nobody answered. Names of headers are in lower case."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


async def http_get(url: str) -> HttpAnswer:
    """A GET with a short timeout."""
    return await asyncio.to_thread(_send, "GET", url, None, {}, _TIMEOUT_SECONDS)


async def http_post(url: str, body: bytes, *, content_type: str, timeout_seconds: float) -> HttpAnswer:
    """A POST."""
    return await asyncio.to_thread(_send, "POST", url, body, {"content-type": content_type}, timeout_seconds)


async def unix_request(path: Path, method: str, target: str) -> HttpAnswer:
    """A request over a Unix socket."""
    return await asyncio.to_thread(lambda: _exchange(_UnixConnection(path), method, target, None, {}))


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _send(method: str, url: str, body: bytes | None, headers: Mapping[str, str], timeout: float) -> HttpAnswer:
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    target = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
    return _exchange(kind(parts.hostname or "", parts.port, timeout=timeout), method, target, body, headers)


def _exchange(
    connection: http.client.HTTPConnection, method: str, target: str, body: bytes | None, headers: Mapping[str, str]
) -> HttpAnswer:
    try:
        connection.request(method, target, body=body, headers=dict(headers))
        response = connection.getresponse()
        answered = {name.lower(): value for name, value in response.getheaders()}
        return HttpAnswer(response.status, _read(response), answered)
    except (OSError, http.client.HTTPException):
        return HttpAnswer(0)
    finally:
        connection.close()


def _read(response: http.client.HTTPResponse) -> bytes:
    """The whole body. Raises OSError for one that is too large, or takes too long."""
    until, parts, size = monotonic() + _LONGEST_SECONDS, list[bytes](), 0
    while part := response.read1(1024 * 1024):
        size += len(part)
        if size > _MOST_BYTES or monotonic() > until:
            raise OSError("the answer is too large, or takes too long")
        parts.append(part)
    return b"".join(parts)
