"""What keeps metrics, traces and logs answers anything, or nothing: the command says so in a line, and soon."""

from __future__ import annotations

import contextlib
import json
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.product import imageflow

TRACE = "0af7651916cd43dd8448eb211c80319c"
Answers = Callable[[socket.socket], None]


class _Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        with contextlib.suppress(OSError):
            self.request.recv(65_536)
            self.server.answer(self.request)  # type: ignore[attr-defined]


@contextlib.contextmanager
def answering(answer: Answers) -> Iterator[str]:
    """A server that does so to whoever connects."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Handler) as server:
        server.daemon_threads = True
        server.answer = answer  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def said(body: bytes, status: str = "200 OK") -> Answers:
    head = f"HTTP/1.1 {status}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return lambda connection: connection.sendall(head.encode() + body)


def silent(connection: socket.socket) -> None:
    time.sleep(10)


def cut_off(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n[{")


def without_end(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")
    while True:
        connection.sendall(b"[" * 1_000_000)


BAD: dict[str, Answers] = {
    "silent": silent,
    "cut off": cut_off,
    "without end": without_end,
    "a page": said(b"<html>hello</html>"),
    "an error": said(b"out of memory", "500 Internal Server Error"),
    "empty": said(b""),
    "a number": said(b"5"),
    "a list of numbers": said(b"[1, 2]"),
    "a list of lists of texts": said(b'[["a"]]'),
    "another object": said(b'{"data": {"result": [{"x": 1}]}, "status": "success"}'),
    "data of another kind": said(b'{"data": [5], "status": "success"}'),
    "deeply nested": said(b"[" * 100_000),
}
COMMANDS = {
    "Zipkin": ("trace", TRACE, "--zipkin"),
    "Jaeger": ("trace", TRACE, "--jaeger"),
    "Prometheus": ("analyze", "p", "--prometheus"),
    "Loki": ("logs", "e", "--loki"),
}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("answer", BAD.values(), ids=BAD.keys())
def test_a_store_that_answers_badly_is_said_to(name: str, answer: Answers) -> None:
    with answering(answer) as url:
        done = imageflow(*COMMANDS[name], url)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"{name} at {url} " in done.stderr or "nothing of" in done.stderr or "no line of" in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def test_clocks_that_disagree_and_names_that_are_commands_to_a_terminal_stay_within_the_picture() -> None:
    span = {"traceId": TRACE, "localEndpoint": {"serviceName": "orchestrator"}}
    spans = [
        {**span, "id": "1" * 16, "name": "root", "timestamp": 2_000_000, "duration": 5_000},
        {**span, "id": "2" * 16, "parentId": "1" * 16, "name": "before", "timestamp": 1_000_000, "duration": 9_000_000},
        {**span, "id": "3" * 16, "parentId": "3" * 16, "name": "its own", "timestamp": 1, "duration": -5},
        {**span, "id": "4" * 16, "parentId": "1" * 16, "name": "\x1b[2Jgone\nforged", "timestamp": 2_000_000},
    ]
    with answering(said(json.dumps(spans).encode())) as url:
        done = imageflow("trace", TRACE, "--zipkin", url)
    assert done.returncode == 0, done.stderr
    assert {"root", "before"} <= set(done.stdout.split())
    assert "\x1b" not in done.stdout
    assert not any(line.startswith("forged") for line in done.stdout.splitlines())
