"""The gateway as a caller over gRPC and gRPC-Web sees it."""

from __future__ import annotations

import asyncio
import base64
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
import yaml
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2, health_pb2_grpc

from imageflow_cli.gateway import production_config
from imageflow_common.status import DETAILS_KEY, from_rpc_error
from tests.gateway.answers import AnyCall, native_error

if TYPE_CHECKING:
    from tests.gateway.conftest import Backend, Gateway

pytestmark = pytest.mark.asyncio(loop_scope="session")


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
    error = await native_error(gateway, method, bytes(size))
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
