"""Clients that know nothing of the product's own Python: protoc's stubs, buf, curl, gRPC-Web."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imageflow.v1 import catalog_pb2, system_pb2

from . import pictures
from .product import TREE

if TYPE_CHECKING:
    from .callers import Callers
    from .product import Product


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, cwd=cwd, env={**os.environ, **environment}, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_stubs_by_plain_protoc_do_all_that_our_own_client_does(product: Product, tmp_path: Path) -> None:
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    sources = sorted(str(path.relative_to(TREE / "protos")) for path in (TREE / "protos").rglob("*.proto"))
    googleapis = Path(sysconfig.get_path("purelib"))
    protoc = [sys.executable, "-m", "grpc_tools.protoc", f"-I{TREE / 'protos'}", f"-I{googleapis}"]
    run(*protoc, f"--python_out={stubs}", f"--grpc_python_out={stubs}", *sources, cwd=tmp_path)
    (tmp_path / "photo.jpg").write_bytes(pictures.photo(640, 480))

    paths = os.pathsep.join([str(stubs), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    client = [sys.executable, "-S", str(Path(__file__).with_name("stranger.py"))]
    seen = json.loads(
        run(*client, f"127.0.0.1:{product.port}", str(tmp_path / "photo.jpg"), cwd=tmp_path, PYTHONPATH=paths)
    )
    assert seen == {
        "foreign": True,
        "stored": True,
        "status": "COMPLETED",
        "recorded": "COMPLETED",
        "whole": True,
        "components": ["detect", "filter", "resize"],
        "refused": "NOT_FOUND",
        "direct": [50, 50, 0],
    }


def buf(product: Product, *arguments: str, folder: Path) -> str:
    """`buf curl` with reflection, far from any proto file."""
    binary = str(Path(sysconfig.get_path("scripts")) / "buf")
    return run(
        binary, "curl", "--protocol", "grpc", "--http2-prior-knowledge", *arguments, cwd=folder, HOME=str(folder)
    )


def test_a_generic_client_lists_describes_and_calls_by_reflection(product: Product, tmp_path: Path) -> None:
    services = buf(product, "--list-services", product.url, folder=tmp_path).split()
    assert {f"imageflow.v1.{name}Service" for name in ("Pipeline", "Image", "Catalog", "Resize", "Detect")} <= set(
        services
    )
    methods = buf(product, "--list-methods", product.url, folder=tmp_path).split()
    assert "imageflow.v1.PipelineService/ExecutePipeline" in methods
    component = json.loads(
        buf(
            product,
            f"{product.url}/imageflow.v1.CatalogService/GetComponent",
            *("-d", '{"componentName": "resize"}'),
            folder=tmp_path,
        )
    )
    assert component["parametersSchema"]["properties"]["width"]["default"] == 800


def test_a_generic_client_runs_a_component_by_its_typed_service(product: Product, tmp_path: Path) -> None:
    png = pictures.one_pixel()
    request = {
        "inputs": [{"mediaType": "image/png", "sizeBytes": len(png), "payloadRange": {"sizeBytes": len(png)}}],
        "parameters": {"width": 7, "height": 7, "enlarge": True},
        "output": {"mediaType": "image/png"},
        "payload": base64.b64encode(png).decode(),
    }
    target = f"{product.url}/imageflow.v1.ResizeService/Process"
    answer = json.loads(buf(product, target, "-d", json.dumps(request), folder=tmp_path))
    assert pictures.decoded(base64.b64decode(answer["payload"])).size == (7, 7)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not on PATH")
def test_curl_sends_a_file_and_writes_a_file(product: Product, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(pictures.photo())
    target = f"{product.url}/v1/components/filter:process?set=filterType=invert&outputFormat=png"
    run(
        *("curl", "--silent", "--show-error", "--fail", "-H", "content-type: image/jpeg"),
        *("--data-binary", "@photo.jpg", "-o", "inverted.png", target),
        cwd=tmp_path,
    )
    assert pictures.decoded((tmp_path / "inverted.png").read_bytes()).size == (512, 512)


def grpc_web(callers: Callers, method: str, message: bytes, content_type: str) -> tuple[bytes, str, str]:
    """The answer's first message if there is one, its grpc-status, and the origin that may read it."""
    frame = struct.pack(">BI", 0, len(message)) + message
    text = "text" in content_type
    headers = {
        "content-type": content_type,
        "accept": content_type,
        "x-grpc-web": "1",
        "origin": "http://localhost:3000",
    }
    response = callers.http.post(
        f"/imageflow.v1.{method}", content=base64.b64encode(frame) if text else frame, headers=headers
    )
    body = b"".join(map(base64.b64decode, _base64_parts(response.content))) if text else response.content
    answer = b""
    if body[:1] == b"\0":
        (length,) = struct.unpack(">I", body[1:5])
        answer, body = body[5 : 5 + length], body[5 + length :]
    trailers = f"grpc-status:{response.headers.get('grpc-status', '')}" if not body else body[5:].decode()
    status = trailers.partition("grpc-status:")[2].split()[0]
    return answer, status, response.headers["access-control-allow-origin"]


def _base64_parts(data: bytes) -> list[bytes]:
    """Messages and trailers are encoded one by one, each with its own padding."""
    return re.findall(rb"[A-Za-z0-9+/]+=*", data)


@pytest.mark.parametrize("content_type", ["application/grpc-web+proto", "application/grpc-web-text+proto"])
def test_a_browser_calls_by_grpc_web(callers: Callers, content_type: str) -> None:
    message, status, origin = grpc_web(callers, "SystemService/GetHealth", b"", content_type)
    assert system_pb2.GetHealthResponse.FromString(message).status == "ok"
    assert (status, origin) == ("0", "http://localhost:3000")


def test_a_browser_sees_the_status_of_an_error(callers: Callers) -> None:
    request = catalog_pb2.GetComponentRequest(component_name="blur").SerializeToString()
    message, status, _ = grpc_web(callers, "CatalogService/GetComponent", request, "application/grpc-web+proto")
    assert (message, status) == (b"", "5")
