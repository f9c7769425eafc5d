"""What a caller of the gateway sees, over HTTP and gRPC."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import grpc
import httpx
import pytest
import yaml
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc

from imageflow_cli.gateway import production_config
from imageflow_common.errors import ImageFlowError, InvalidPipeline, ObjectNotFound, Overloaded, Violation
from imageflow_common.status import DETAILS_KEY, from_rpc_error

if TYPE_CHECKING:
    from tests.gateway.conftest import Backend, Eventually, Gateway, RunGateway

pytestmark = pytest.mark.asyncio(loop_scope="session")

AnyCall: TypeAlias = "grpc.aio.UnaryUnaryMultiCallable[Any, Any]"
MIB = 1024 * 1024
ERROR_INFO = "type.googleapis.com/google.rpc.ErrorInfo"


def reason(response: httpx.Response) -> str:
    """The reason of an error, which has the one shape that errors have."""
    assert response.headers["content-type"] == "application/json"
    error = response.json()
    assert set(error) == {"code", "message", "details"}
    assert error["message"]
    return str(next(detail["reason"] for detail in error["details"] if detail["@type"] == ERROR_INFO))


@pytest.mark.parametrize("content_type", ["application/json", "application/x-www-form-urlencoded", None])
async def test_a_json_body_arrives_as_it_was_sent(
    client: httpx.AsyncClient, backend: Backend, content_type: str | None
) -> None:
    body = b'{"pipeline": {"dependancies": 1}, '
    headers = {"content-type": content_type} if content_type else {}
    response = await client.post("/v1/pipelines:execute", content=body, headers=headers)
    assert response.status_code == 200
    request = backend.last.requests[0]
    assert (request.body.data, request.body.content_type) == (body, content_type or "")


async def test_an_execution_is_answered_as_json_at_the_top(client: httpx.AsyncClient, backend: Backend) -> None:
    async def execute(request: Any, context: Any) -> Any:
        return backend.message("Execution")(execution_id="e-1", status="COMPLETED")

    backend.answers["PipelineService/ExecutePipeline"] = execute
    response = await client.post("/v1/pipelines:execute", json={})
    assert response.json()["executionId"] == "e-1"
    assert response.json()["status"] == "COMPLETED"


@pytest.mark.parametrize("output_format", ["outputFormat", "output_format"])
async def test_an_image_goes_through_a_pipeline_raw(
    client: httpx.AsyncClient, backend: Backend, output_format: str
) -> None:
    async def process(request: Any, context: Any) -> Any:
        await context.send_initial_metadata((("imageflow-execution-id", "e-2"), ("server-timing", "resize;dur=1")))
        return backend.message("google.api.HttpBody")(content_type="image/webp", data=request.body.data[::-1])

    backend.answers["PipelineService/ProcessImage"] = process
    image = bytes(range(256)) * 12_000
    response = await client.post(
        f"/v1/pipelines/p-1.2:process?set=a.width=3&set=b.text=x%20y%2Bz&{output_format}=png&quality=80",
        content=image,
        headers={"content-type": "image/png", "accept-encoding": "gzip"},
    )
    assert response.content == image[::-1]
    assert response.headers["content-type"] == "image/webp"
    assert response.headers["imageflow-execution-id"] == "e-2"
    assert response.headers["server-timing"] == "resize;dur=1"
    assert "content-encoding" not in response.headers
    request = backend.last.requests[0]
    assert request.pipeline_id == "p-1.2"
    assert list(request.set) == ["a.width=3", "b.text=x y+z"]
    assert (request.output_format, request.quality) == ("png", 80)
    assert (request.body.content_type, request.body.data) == ("image/png", image)


@pytest.mark.parametrize(
    ("path", "key"),
    [
        ("a/b.png", "a/b.png"),
        ("a%2Fb.png", "a/b.png"),
        ("a%20b%2B(1).png", "a b+(1).png"),
        ("a+b.png", "a+b.png"),
        ("%E2%82%AC.png", "€.png"),
        ("a//b", "a//b"),
        ("a%252Fb", "a%2Fb"),
        ("a/../b", "b"),
        ("a:b", "a:b"),
        ("a%3Aprocess", "a:process"),
    ],
)
async def test_a_key_is_the_decoded_rest_of_the_path(
    client: httpx.AsyncClient, backend: Backend, path: str, key: str
) -> None:
    response = await client.put(f"/v1/images/{path}", content=b"x")
    assert response.status_code == 200
    assert backend.last.requests[0].key == key


@pytest.mark.parametrize(
    ("method", "path", "query"),
    [
        ("GET", "/v1/images/a/b.png", "key=other"),
        ("DELETE", "/v1/images/a", "pageSize=1&key=other"),
        ("PUT", "/v1/images/a", "k%65y=other"),
        ("DELETE", "/v1/images/", "key=other"),
        ("GET", "/v1/pipelines/p", "pipelineId=other"),
        ("DELETE", "/v1/pipelines/p", "pipeline_id=other"),
        ("POST", "/v1/pipelines/p:process", "quality=80&pipelineId=other"),
        ("GET", "/v1/executions/e", "executionId=other"),
        ("GET", "/v1/executions/e", "execution_id=other"),
        ("GET", "/v1/components/c", "componentName=other"),
        ("POST", "/v1/components/c:process", "component_name=other"),
    ],
)
async def test_a_query_cannot_replace_what_the_path_names(
    client: httpx.AsyncClient, backend: Backend, method: str, path: str, query: str
) -> None:
    response = await client.request(method, f"{path}?{query}")
    assert (response.status_code, reason(response)) == (400, "INVALID_REQUEST")
    assert backend.calls == []


async def test_a_list_is_filtered_by_what_other_routes_name_by_path(
    client: httpx.AsyncClient, backend: Backend
) -> None:
    assert (await client.get("/v1/pipelines?pipelineId=p")).status_code == 200
    assert (await client.get("/v1/executions?pipelineId=p")).status_code == 200
    assert (await client.post("/v1/pipelines/p:process?executionId=e", content=b"x")).status_code == 200
    assert backend.last.requests[0].execution_id == "e"


async def test_a_stored_page_does_not_run_in_a_browser(client: httpx.AsyncClient, backend: Backend) -> None:
    async def download(request: Any, context: Any) -> AsyncIterator[Any]:
        yield backend.message("google.api.HttpBody")(content_type="text/html", data=b"<script>alert(1)</script>")

    backend.answers["ImageService/DownloadImage"] = download
    response = await client.get("/v1/images/page.html")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["content-security-policy"] == "default-src 'none'; sandbox"


async def test_an_upload_streams(client: httpx.AsyncClient, backend: Backend, eventually: Eventually) -> None:
    """The service has the first part before the caller has sent the last."""
    may_end = asyncio.Event()

    async def parts() -> AsyncIterator[bytes]:
        yield bytes(2 * MIB)
        await asyncio.wait_for(may_end.wait(), 10)
        yield b"end"

    async def upload() -> httpx.Response:
        return await client.put("/v1/images/k", content=parts(), headers={"content-type": "image/png"})

    sending = asyncio.create_task(upload())
    await eventually(lambda: bool(backend.calls and backend.last.requests))
    may_end.set()
    assert (await sending).status_code == 200
    first, *others = backend.last.requests
    assert (first.key, first.body.content_type) == ("k", "image/png")
    assert sum(len(part.body.data) for part in (first, *others)) == 2 * MIB + 3
    assert {part.key for part in others} == {""}


async def test_a_download_streams_with_its_metadata_as_headers(client: httpx.AsyncClient, backend: Backend) -> None:
    async def download(request: Any, context: Any) -> AsyncIterator[Any]:
        await context.send_initial_metadata((("imageflow-sha256", "abc"), ("imageflow-size-bytes", "3000000")))
        for _ in range(3):
            yield backend.message("google.api.HttpBody")(content_type="image/png", data=b"x" * 1_000_000)

    backend.answers["ImageService/DownloadImage"] = download
    response = await client.get("/v1/images/k", headers={"accept-encoding": "gzip"})
    assert response.content == b"x" * 3_000_000
    assert response.headers["content-type"] == "image/png"
    assert response.headers["imageflow-sha256"] == "abc"
    assert "content-encoding" not in response.headers


async def test_head_answers_as_a_download_without_its_bytes(gateway: Gateway, backend: Backend) -> None:
    """Whatever comes next on the connection is the next answer."""

    async def head(request: Any, context: Any) -> Any:
        if request.key == "none":
            raise ObjectNotFound("no object under this key")
        await context.send_initial_metadata((("imageflow-sha256", "abc"), ("imageflow-size-bytes", "3000000")))
        return backend.message("google.api.HttpBody")(content_type="image/png")

    backend.answers["ImageService/HeadImage"] = head
    one = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20, limits=one) as client:
        for _ in range(2):
            response = await client.head("/v1/images/a/k%20b.png")
            assert (response.status_code, response.content) == (200, b"")
            assert response.headers["content-length"] == "3000000"
            assert response.headers["content-type"] == "image/png"
            assert response.headers["imageflow-sha256"] == "abc"
            assert backend.last.requests[0].key == "a/k b.png"
            missing = await client.head("/v1/images/none")
            assert (missing.status_code, missing.content) == (404, b"")
            assert (await client.head("/v1/images/a?key=b")).status_code == 400
            assert (await client.get("/healthz")).json() is not None


async def test_an_error_before_the_first_byte_of_a_download_has_its_status(
    client: httpx.AsyncClient, backend: Backend
) -> None:
    async def missing(request: Any, context: Any) -> AsyncIterator[Any]:
        raise ObjectNotFound("no object under this key")
        yield

    backend.answers["ImageService/DownloadImage"] = missing
    response = await client.get("/v1/images/k")
    assert (response.status_code, reason(response)) == (404, "OBJECT_NOT_FOUND")


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
    assert (await _native_error(gateway, "CatalogService/ListComponents")).reason == expected


async def _native_error(gateway: Gateway, method: str, request: bytes = b"", timeout: float = 20) -> ImageFlowError:
    """How a call of native gRPC ends. It must have details."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        call: AnyCall = channel.unary_unary(f"/imageflow.v1.{method}")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(request, timeout=timeout)
    assert DETAILS_KEY in dict(caught.value.trailing_metadata() or ())
    error = from_rpc_error(caught.value)
    assert error.message
    return error


async def test_a_call_without_a_deadline_gets_the_longest(client: httpx.AsyncClient, backend: Backend) -> None:
    await client.get("/healthz")
    assert backend.last.seconds_left is not None
    assert 250 < backend.last.seconds_left <= 300


async def test_headers_that_the_gateway_sets_cannot_come_from_outside(
    client: httpx.AsyncClient, backend: Backend
) -> None:
    await client.get("/healthz", headers={"x-client-id": "root", "x-request-id": "mine", "x-envoy-force-trace": "1"})
    seen = backend.last.metadata
    assert "x-client-id" not in seen
    assert "x-envoy-force-trace" not in seen
    assert seen["x-request-id"] != "mine"


async def test_nobody_can_make_the_gateway_retry(client: httpx.AsyncClient, backend: Backend) -> None:
    async def refuse(request: Any, context: Any) -> Any:
        raise Overloaded("busy")

    backend.answers["SystemService/GetHealth"] = refuse
    retry = {"x-envoy-retry-on": "5xx", "x-envoy-retry-grpc-on": "resource-exhausted", "x-envoy-max-retries": "3"}
    await client.get("/healthz", headers=retry)
    assert len(backend.calls) == 1


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost:3000", True),
        ("http://127.0.0.1", True),
        ("https://example.com", False),
        ("http://localhost.example.com", False),
    ],
)
async def test_pages_of_this_machine_alone_may_call(client: httpx.AsyncClient, origin: str, allowed: bool) -> None:
    headers = {"origin": origin, "access-control-request-method": "POST"}
    response = await client.options("/v1/pipelines:execute", headers=headers)
    assert response.headers.get("access-control-allow-origin") == (origin if allowed else None)
    response = await client.get("/healthz", headers={"origin": origin})
    assert ("access-control-allow-origin" in response.headers) is allowed


async def test_json_is_compressed(client: httpx.AsyncClient, backend: Backend) -> None:
    async def execution(request: Any, context: Any) -> Any:
        return backend.message("Execution")(execution_id="e" * 5_000)

    backend.answers["ExecutionService/GetExecution"] = execution
    request = client.build_request("GET", "/v1/executions/e", headers={"accept-encoding": "gzip"})
    response = await client.send(request, stream=True)
    assert response.headers["content-encoding"] == "gzip"
    raw = b"".join([part async for part in response.aiter_raw()])
    assert json.loads(gzip.decompress(raw))["executionId"] == "e" * 5_000


async def test_grpc_web_goes_over_plain_http(client: httpx.AsyncClient, backend: Backend) -> None:
    async def execution(request: Any, context: Any) -> Any:
        return backend.message("Execution")(execution_id=request.execution_id)

    backend.answers["ExecutionService/GetExecution"] = execution
    message = backend.message("GetExecutionRequest")(execution_id="e-9").SerializeToString()
    response = await client.post(
        "/imageflow.v1.ExecutionService/GetExecution",
        content=b"\0" + len(message).to_bytes(4, "big") + message,
        headers={"content-type": "application/grpc-web+proto", "x-grpc-web": "1"},
    )
    size = int.from_bytes(response.content[1:5], "big")
    answer: Any = backend.message("Execution").FromString(response.content[5 : 5 + size])
    assert answer.execution_id == "e-9"
    trailers = response.content[5 + size :]
    assert trailers[0] == 0x80
    assert b"grpc-status:0" in trailers


async def test_native_grpc_reaches_every_service(gateway: Gateway, backend: Backend) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        for service, method in [
            ("PipelineService", "ListPipelines"),
            ("ExecutionService", "ListExecutions"),
            ("ImageService", "ListImages"),
            ("CatalogService", "ListComponents"),
            ("SystemService", "GetHealth"),
            ("ResizeService", "Process"),
            ("DetectService", "Process"),
        ]:
            call: AnyCall = channel.unary_unary(f"/imageflow.v1.{service}/{method}")
            await call(b"", timeout=10)
            assert backend.last.method == f"{service}/{method}"
        health = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    ("method", "size", "code", "expected"),
    [
        ("FilterService/Process", 0, "UNAVAILABLE", "UNAVAILABLE"),
        ("ComponentService/Describe", 0, "UNIMPLEMENTED", "NO_SUCH_METHOD"),
        ("PipelineService/Forget", 0, "UNIMPLEMENTED", "NO_SUCH_METHOD"),
        ("ResizeService/Process", 100_000_000, "INVALID_ARGUMENT", "BODY_TOO_LARGE"),
    ],
)
async def test_the_gateways_own_errors_are_statuses_with_details_for_grpc(
    gateway: Gateway, method: str, size: int, code: str, expected: str
) -> None:
    error = await _native_error(gateway, method, bytes(size))
    assert (error.code, error.reason) == (code, expected)
    assert "{" not in error.message


async def test_a_deadline_of_grpcs_has_its_reason(gateway: Gateway, backend: Backend) -> None:
    """The client waits longer than it says."""

    async def never(request: Any, context: Any) -> Any:
        await asyncio.Event().wait()

    backend.answers["CatalogService/ListComponents"] = never
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        call: AnyCall = channel.unary_unary("/imageflow.v1.CatalogService/ListComponents")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(b"", metadata=(("grpc-timeout", "300m"),))
    assert DETAILS_KEY in dict(caught.value.trailing_metadata() or ())
    assert from_rpc_error(caught.value).reason == "DEADLINE_EXCEEDED"


@pytest.mark.parametrize("content_type", ["application/grpc-web+proto", "application/grpc-web-text"])
async def test_a_call_of_grpc_web_without_a_message_is_an_invalid_argument(
    client: httpx.AsyncClient, content_type: str
) -> None:
    headers = {"content-type": content_type, "x-grpc-web": "1"}
    response = await client.post("/imageflow.v1.CatalogService/ListComponents", content=b"", headers=headers)
    assert response.headers["grpc-status"] == "3"
    assert "no%20message" in response.headers["grpc-message"] or "no message" in response.headers["grpc-message"]


async def test_what_the_gateway_tells_grpc_is_what_it_tells_http() -> None:
    """Each status in base64 is of its code, and has a reason and the message that stands beside it."""
    mappers = _find_all(yaml.safe_load(production_config()), "mappers")[0]
    told = 0
    for mapper in mappers:
        headers = {each["header"]["key"]: each["header"]["value"] for each in mapper.get("headers_to_add", [])}
        if DETAILS_KEY not in headers:
            continue
        status = Status.FromString(base64.b64decode(headers[DETAILS_KEY]))
        assert str(status.code) == headers["grpc-status"]
        assert status.message == mapper["body_format_override"]["text_format_source"]["inline_string"]
        info = ErrorInfo()
        assert status.details[0].Unpack(info)
        assert info.domain == "imageflow"
        told += 1
    assert told == 10


def _find_all(node: Any, name: str) -> list[Any]:
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    here = [node[name]] if isinstance(node, dict) and name in node else []
    return here + [found for child in children for found in _find_all(child, name)]


async def test_reflection_lists_and_describes_with_no_protos_at_hand(gateway: Gateway) -> None:
    buf = Path(sys.executable).with_name("buf")
    options = "--protocol grpc --http2-prior-knowledge --list-methods --reflect-protocol grpc-v1alpha"
    command = [str(buf), "curl", *options.split()]
    listed = await asyncio.to_thread(
        subprocess.run, [*command, gateway.url], capture_output=True, text=True, timeout=30, check=False
    )
    assert listed.returncode == 0, listed.stderr
    assert "imageflow.v1.PipelineService/ExecutePipeline" in listed.stdout
    assert "imageflow.v1.ResizeService/Process" in listed.stdout


async def test_the_access_log_has_no_query_and_no_successful_probes(
    gateway: Gateway, client: httpx.AsyncClient, backend: Backend, eventually: Eventually
) -> None:
    async def process(request: Any, context: Any) -> Any:
        await context.send_initial_metadata((("imageflow-execution-id", "e-log"),))
        return backend.message("google.api.HttpBody")()

    backend.answers["PipelineService/ProcessImage"] = process
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await client.get("/healthz")
    await client.post("/v1/pipelines/logged:process?set=secret", content=b"", headers={"traceparent": trace})

    def lines() -> list[dict[str, Any]]:
        return [line for line in gateway.access_log() if line["execution_id"] == "e-log"]

    await eventually(lambda: bool(lines()))
    assert lines()[0]["path"] == "/v1/pipelines/logged:process"
    assert lines()[0]["traceparent"] == trace
    assert lines()[0]["status"] == 200
    assert "secret" not in gateway.output.read_text()
    assert not any(line["path"] == "/healthz" and line["status"] == 200 for line in gateway.access_log())


async def test_the_status_port_shows_two_pages_of_the_admin_interface(gateway: Gateway) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{gateway.status_port}") as status:
        assert (await status.get("/ready")).status_code == 200
        assert "envoy_cluster_upstream_rq" in (await status.get("/stats/prometheus")).text
        assert (await status.post("/quitquitquit")).status_code == 404
        assert (await status.get("/config_dump")).status_code == 404


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
