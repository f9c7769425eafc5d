"""Answers in the form that Jaeger's query API documents, served over HTTP, for an execution as `sent.py` sends it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from .sent import Sent

START_US = 1_790_000_000_000_000


def trace_json(sent: Sent) -> dict[str, Any]:
    parts = {"queue_ms": 1.0, "transport_ms": 1.0, "decode_ms": 0.0, "compute_ms": 7.0, "encode_ms": 1.0}
    root = _span(sent, "a" * 16, "", "pipeline.execute", 0, {"pipeline.id": sent.pipeline_id})
    steps = [
        _span(sent, "b" * 16, "a" * 16, "step.execute", 10, {"step.id": "shrink", "attempt": 1, "error": True}),
        _span(sent, "c" * 16, "a" * 16, "step.execute", 20, {"step.id": "shrink", "attempt": 2, **parts}),
        _span(sent, "d" * 16, "a" * 16, "step.execute", 30, {"step.id": "sharpen", "attempt": 1, **parts}),
    ]
    return {
        "traceID": sent.trace_id,
        "spans": [*reversed(steps), root],
        "processes": {"p1": {"serviceName": "orchestrator", "tags": []}},
        "warnings": None,
    }


def _span(
    sent: Sent, span_id: str, parent: str, name: str, start: int, tags: dict[str, str | int | float | bool]
) -> dict[str, Any]:
    kinds = {bool: "bool", int: "int64", float: "float64", str: "string"}
    attributes = {"execution.id": sent.execution_id, "step.type": "filter", **tags}
    return {
        "traceID": sent.trace_id,
        "spanID": span_id,
        "operationName": name,
        "references": [{"refType": "CHILD_OF", "traceID": sent.trace_id, "spanID": parent}] if parent else [],
        "startTime": START_US + start,
        "duration": 100 - start,
        "tags": [{"key": key, "type": kinds[type(value)], "value": value} for key, value in attributes.items()],
        "logs": [],
        "processID": "p1",
    }


@contextmanager
def serving(sent: Sent) -> Iterator[str]:
    """Its URL. It knows one trace, by id and by tag."""

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.path == f"/api/traces/{sent.trace_id}":
                return self._answer(200, {"data": [trace_json(sent)], "total": 0, "errors": None})
            if parts.path.startswith("/api/traces/"):
                return self._answer(404, {"data": None, "errors": [{"code": 404, "msg": "trace not found"}]})
            question = parse_qs(parts.query)
            assert question["service"] == ["orchestrator"]
            assert int(question["start"][0]) < int(question["end"][0])
            tags = json.loads(question["tags"][0])
            known = {"execution.id": sent.execution_id, "pipeline.id": sent.pipeline_id}
            found = [trace_json(sent)] if tags.items() <= known.items() else []
            return self._answer(200, {"data": found, "total": 0, "errors": None})

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *arguments: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
