"""What a caller of the gateway sees, over HTTP."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from imageflow_common.errors import ObjectNotFound, Overloaded
from tests.gateway.answers import reason

if TYPE_CHECKING:
    from tests.gateway.conftest import Backend, Eventually, Gateway

pytestmark = pytest.mark.asyncio(loop_scope="session")

MIB = 1024 * 1024


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
