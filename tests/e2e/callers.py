"""Callers of the gateway, and what it answers them: one shape of refusal, whether over HTTP or gRPC."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc import error_details_pb2, status_pb2

from imageflow.v1 import catalog_pb2
from imageflow_common.descriptors import own_descriptors

MIB = 1024 * 1024
SECONDS = 60.0
_ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
_BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error as its caller sees it. `http_status` 0: it came over gRPC."""

    code: str
    reason: str
    message: str
    http_status: int = 0
    faults: dict[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """All that a person would read."""
        return "\n".join([self.message, *(f"{place}: {what}" for place, what in self.faults.items())])


def http_refusal(response: httpx.Response) -> Refusal:
    """An error has one shape: `{code, message, details[]}`, its reason in an ErrorInfo."""
    assert response.headers["content-type"] == "application/json", response.text
    return json_refusal(response.status_code, response.json())


def json_refusal(http_status: int, error: dict[str, Any]) -> Refusal:
    assert set(error) == {"code", "message", "details"}, error
    by_type = {detail["@type"]: detail for detail in error["details"]}
    info = by_type[_ERROR_INFO]
    assert info["domain"] == "imageflow"
    violations = by_type.get(_BAD_REQUEST, {}).get("fieldViolations", [])
    code = next(each.name for each in grpc.StatusCode if each.value[0] == error["code"])
    faults = {each["field"]: each["description"] for each in violations}
    return Refusal(code, info["reason"], error["message"], http_status, faults)


def grpc_refusal(call: Callable[[], object]) -> Refusal:
    """The error that a call must end with."""
    try:
        answer = call()
    except grpc.RpcError as exc:
        error: Any = exc
    else:
        raise AssertionError(f"it was not refused: {answer!r}"[:500])
    trailing = dict(error.trailing_metadata() or ())
    status = status_pb2.Status.FromString(trailing.get("grpc-status-details-bin", b""))
    info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        for kind in (info, request):
            if detail.Is(kind.DESCRIPTOR):
                detail.Unpack(kind)
    faults = {each.field: each.description for each in request.field_violations}
    return Refusal(error.code().name, info.reason, error.details() or "", 0, faults)


class Rpc:
    """Native gRPC: any method of the product, by name."""

    def __init__(self, target: str) -> None:
        self._channel = grpc.insecure_channel(
            target, [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
        )

    def close(self) -> None:
        self._channel.close()

    def __call__(self, method: str, request: Message | Iterable[Message], **metadata: str) -> Any:
        """`method` is as in `PipelineService/ExecutePipeline`. Server streams are read to their end."""
        service, _, name = method.partition("/")
        found = own_descriptors().service(f"imageflow.v1.{service}").methods_by_name[name]
        kind = f"{'stream' if found.client_streaming else 'unary'}_{'stream' if found.server_streaming else 'unary'}"
        call = getattr(self._channel, kind)(
            f"/imageflow.v1.{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(found.output_type).FromString,
        )
        answer = call(request, timeout=SECONDS, metadata=tuple(metadata.items()))
        return list(answer) if found.server_streaming else answer

    def start(self, method: str, request: Message) -> grpc.Future:
        """A call of one message and one answer, not waited for."""
        service, _, name = method.partition("/")
        found = own_descriptors().service(f"imageflow.v1.{service}").methods_by_name[name]
        call = self._channel.unary_unary(
            f"/imageflow.v1.{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=GetMessageClass(found.output_type).FromString,
        )
        return call.future(request, timeout=SECONDS)


@dataclass(frozen=True, slots=True)
class Callers:
    """Both ways in to one product."""

    http: httpx.Client
    rpc: Rpc

    def process_http(
        self, data: bytes, content_type: str = "", component: str = "resize", **query: Any
    ) -> httpx.Response:
        headers = {"content-type": content_type or "application/octet-stream"}
        return self.http.post(f"/v1/components/{component}:process", content=data, headers=headers, params=query)

    def process_grpc(self, data: bytes, content_type: str = "", component: str = "resize", **fields: Any) -> HttpBody:
        request = catalog_pb2.ProcessWithComponentRequest(component_name=component, **fields)
        request.body.CopyFrom(HttpBody(content_type=content_type, data=data))
        body: HttpBody = self.rpc("CatalogService/ProcessWithComponent", request)
        return body

    def post(self, path: str, body: object) -> httpx.Response:
        """JSON, or a text that is sent as it is."""
        content = body if isinstance(body, str) else json.dumps(body)
        return self.http.post(path, content=content.encode(), headers={"content-type": "application/json"})


def connect(url: str, target: str) -> Iterator[Callers]:
    rpc = Rpc(target)
    # It closes idle connections past a number, at times one that another thread has just been given.
    limits = httpx.Limits(max_keepalive_connections=None)
    with httpx.Client(base_url=url, timeout=SECONDS, limits=limits) as http:
        yield Callers(http, rpc)
    rpc.close()


def post_while_reading(port: int, path: str, size: int) -> tuple[int, bytes]:
    """Sends a large body on a bare socket, and stops when an answer comes: what only writes would see a reset."""
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: image/jpeg\r\ncontent-length: {size}\r\n\r\n"
    received, sent, part = b"", 0, bytes(MIB)
    end = time.monotonic() + SECONDS
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(head.encode())
        connection.setblocking(False)
        while not _is_whole(received):
            assert time.monotonic() < end, f"no answer after {sent} bytes: {received!r}"
            received += _read(connection)
            sent += _write(connection, part[: size - sent]) if not received else 0
    status, body = received.split(b" ", 2)[1], received.partition(b"\r\n\r\n")[2]
    return int(status), body


def _is_whole(response: bytes) -> bool:
    head, end, body = response.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    return bool(end) and length is not None and len(body) >= int(length[1])


def _read(connection: socket.socket) -> bytes:
    try:
        return connection.recv(MIB)
    except BlockingIOError:
        return b""


def _write(connection: socket.socket, data: bytes) -> int:
    try:
        return connection.send(data) if data else 0
    except BlockingIOError:
        time.sleep(0.001)
        return 0
    except OSError:  # the other end wants no more; its answer is still to be read
        return 0
