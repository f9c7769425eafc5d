"""What is wrong, and since when, is told to those who operate the system, and not to the world."""

from __future__ import annotations

import json
import os
import signal

import grpc
import pytest

from imageflow.v1.system_pb2 import GetDependenciesRequest, GetDependenciesResponse

from .product import Product, eventually, imageflow


def dependencies(address: str) -> dict[str, bool]:
    with grpc.insecure_channel(address) as channel:
        ask = channel.unary_unary(
            "/imageflow.v1.SystemService/GetDependencies",
            request_serializer=GetDependenciesRequest.SerializeToString,
            response_deserializer=GetDependenciesResponse.FromString,
        )
        return {each.name: each.well for each in ask(GetDependenciesRequest(), timeout=10).dependencies}


def test_only_the_orchestrator_itself_tells_how_its_dependencies_are(product: Product) -> None:
    told = dependencies(product.address("orchestrator"))
    assert told == {"resize": True, "detect": True, "filter": True, "file": True, "objects": True}
    with pytest.raises(grpc.RpcError) as caught:
        dependencies(f"127.0.0.1:{product.port}")
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_status_says_what_is_wrong_and_since_when(product: Product) -> None:
    stopped = product.pids()["filter"]
    os.kill(stopped, signal.SIGSTOP)
    try:

        def wrong() -> dict[str, str] | None:
            told = json.loads(imageflow("status", "--data", str(product.data), "--json").stdout)["dependencies"]
            return next((each for each in told if each["name"] == "filter" and not each["well"]), None)

        found = eventually(wrong, within=30)
        assert found["kind"] == "component"
        assert found["since"].startswith("20")
        assert "DEADLINE_EXCEEDED" in found["reason"]
        shown = imageflow("status", "--data", str(product.data))
        assert f"since {found['since']}" in shown.stdout
    finally:
        os.kill(stopped, signal.SIGCONT)
    eventually(lambda: dependencies(product.address("orchestrator"))["filter"], within=30)
