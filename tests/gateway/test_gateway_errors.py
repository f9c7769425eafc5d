"""What the gateway says when a request cannot be served, over HTTP and gRPC."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest

from imageflow_common.errors import InvalidPipeline, Overloaded, Violation
from tests.gateway.answers import native_error, reason

if TYPE_CHECKING:
    from tests.gateway.conftest import Backend, Gateway

pytestmark = pytest.mark.asyncio(loop_scope="session")


MIB = 1024 * 1024


async def test_overload_is_429_with_when_to_come_back(client: httpx.AsyncClient, backend: Backend) -> None:
    async def refuse(request: Any, context: Any) -> Any:
        raise Overloaded("busy", retry_after=timedelta(seconds=2))

    backend.answers["PipelineService/ExecutePipeline"] = refuse
    response = await client.post("/v1/pipelines:execute", json={})
    assert (response.status_code, reason(response)) == (429, "OVERLOADED")
    assert response.headers["retry-after"] == "2"
    assert response.json()["details"][1]["retryDelay"] == "2s"


async def test_faults_of_a_definition_are_listed(client: httpx.AsyncClient, backend: Backend) -> None:
    async def refuse(request: Any, context: Any) -> Any:
        raise InvalidPipeline("1 fault", violations=[Violation("steps[0].width", "unknown field")])

    backend.answers["PipelineService/ExecutePipeline"] = refuse
    response = await client.post("/v1/pipelines:execute", json={})
    assert (response.status_code, reason(response)) == (400, "INVALID_PIPELINE")
    (violation,) = response.json()["details"][1]["fieldViolations"]
    assert (violation["field"], violation["description"]) == ("steps[0].width", "unknown field")


@pytest.mark.parametrize(
    ("method", "path", "status", "expected"),
    [
        ("GET", "/nowhere", 404, "NO_SUCH_ROUTE"),
        ("GET", "/v1/nowhere", 404, "NO_SUCH_ROUTE"),
        ("PATCH", "/v1/pipelines", 404, "NO_SUCH_ROUTE"),
        ("GET", "/v1/pipelines:execute", 404, "NO_SUCH_ROUTE"),
        ("POST", "/imageflow.v1.PipelineService/ExecutePipeline", 404, "NO_SUCH_ROUTE"),
        ("GET", "/v1/pipelines?bogus=1", 400, "INVALID_REQUEST"),
        ("GET", "/v1/pipelines?pageSize=x", 400, "INVALID_REQUEST"),
        ("GET", "/v1/executions?status=bogus", 400, "INVALID_REQUEST"),
    ],
)
async def test_what_is_not_served_is_a_json_error(
    client: httpx.AsyncClient, method: str, path: str, status: int, expected: str
) -> None:
    response = await client.request(method, path)
    assert (response.status_code, reason(response)) == (status, expected)


@pytest.mark.parametrize("media_type", ["application/grpc", "application/grpc+proto", "Application/gRPC-Web+proto"])
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/pipelines:execute"), ("PUT", "/v1/images/a"), ("POST", "/v1/pipelines/p:process"), ("GET", "/v1/x")],
)
async def test_a_call_of_grpcs_on_a_path_of_https_is_415(
    client: httpx.AsyncClient, backend: Backend, method: str, path: str, media_type: str
) -> None:
    response = await client.request(method, path, content=b"{}", headers={"content-type": media_type})
    assert (response.status_code, reason(response)) == (415, "UNSUPPORTED_MEDIA_TYPE")
    assert backend.calls == []


@pytest.mark.parametrize(
    ("method", "path", "word"),
    [
        ("PUT", "/v1/images/a%00b", "path_normalization_failed"),
        ("GET", "/v1/pipelines?bogus=1", "bogus"),
        ("GET", "/v1/images/a?key=b", "names again"),
    ],
)
async def test_a_fault_that_only_the_gateway_sees_is_named(
    client: httpx.AsyncClient, method: str, path: str, word: str
) -> None:
    response = await client.request(method, path)
    assert (response.status_code, reason(response)) == (400, "INVALID_REQUEST")
    assert word in response.json()["message"]


@pytest.mark.parametrize("headers", [{"x": "y" * 40_000}, {f"x{i}": "y" for i in range(150)}])
async def test_too_many_headers_are_431(client: httpx.AsyncClient, headers: dict[str, str]) -> None:
    response = await client.get("/healthz", headers=headers)
    assert (response.status_code, reason(response)) == (431, "HEADERS_TOO_LARGE")


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [
        ("/v1/pipelines:execute", 4 * MIB, 200),
        ("/v1/pipelines:execute", 4 * MIB + 1, 413),
        ("/v1/executions", 4 * MIB + 1, 413),
        ("/v1/pipelines/p:process", 64 * MIB, 200),
        ("/v1/pipelines/p:process", 100_000_000, 413),
        ("/v1/images", 100_000_000, 200),
    ],
)
async def test_bodies_have_a_limit(gateway: Gateway, backend: Backend, path: str, size: int, status: int) -> None:
    """As a client that reads while it writes, such as curl: one that only writes may see its connection reset."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(f"POST {path} HTTP/1.1\r\nhost: gateway\r\ncontent-length: {size}\r\n\r\n".encode())
    if status == 200:
        writer.write(bytes(size))
        await writer.drain()
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 20)).decode().lower()
    assert head.startswith(f"http/1.1 {status} ")
    if status == 413:
        error = json.loads(await asyncio.wait_for(reader.readuntil(b"}\n"), 20))
        assert error["details"][0]["reason"] == "BODY_TOO_LARGE"
    writer.close()


@pytest.mark.parametrize(
    "sent",
    [
        b"GARBAGE\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"POST /v1/pipelines:execute HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    ],
)
async def test_what_is_not_http_is_a_json_error(gateway: Gateway, sent: bytes) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(sent)
    answer = await asyncio.wait_for(reader.read(), 20)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["details"][0]["reason"] == "INVALID_REQUEST"
    writer.close()


async def test_a_callers_deadline_reaches_the_service_and_ends_the_call(
    client: httpx.AsyncClient, backend: Backend
) -> None:
    async def never(request: Any, context: Any) -> Any:
        await asyncio.Event().wait()

    backend.answers["PipelineService/ExecutePipeline"] = never
    response = await client.post("/v1/pipelines:execute", json={}, headers={"grpc-timeout": "300m"})
    assert (response.status_code, reason(response)) == (504, "DEADLINE_EXCEEDED")
    assert backend.last.seconds_left is not None
    assert backend.last.seconds_left < 0.31


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        (grpc.StatusCode.DEADLINE_EXCEEDED, 504, "DEADLINE_EXCEEDED"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 429, "MESSAGE_TOO_LARGE"),
        (grpc.StatusCode.UNIMPLEMENTED, 501, "NO_SUCH_METHOD"),
        (grpc.StatusCode.INTERNAL, 500, "INTERNAL"),
        (grpc.StatusCode.UNAVAILABLE, 503, "UNAVAILABLE"),
        (grpc.StatusCode.CANCELLED, 499, "CANCELLED"),
        (grpc.StatusCode.UNKNOWN, 500, "INTERNAL"),
    ],
)
async def test_a_status_without_details_gets_its_reason(
    client: httpx.AsyncClient, gateway: Gateway, backend: Backend, code: grpc.StatusCode, status: int, expected: str
) -> None:
    async def bare(request: Any, context: Any) -> Any:
        await context.abort(code, "as gRPC itself ends a call")

    backend.answers["CatalogService/ListComponents"] = bare
    response = await client.get("/v1/components")
    assert (response.status_code, reason(response)) == (status, expected)
    assert (await native_error(gateway, "CatalogService/ListComponents")).reason == expected
