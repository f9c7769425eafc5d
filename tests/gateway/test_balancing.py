"""How the gateway spreads calls, and what it does when replicas go."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from imageflow_cli.gateway import Endpoint, InvalidGatewayConfigError, LocalAddresses, local_config, validate
from imageflow_common.errors import Unavailable

if TYPE_CHECKING:
    from tests.gateway.conftest import Backend, Eventually, Gateway, RunGateway


class TestTheConfiguration:
    addresses = LocalAddresses(
        services={"orchestrator": [Endpoint("127.0.0.1", 1), Endpoint("127.0.0.1", 2)]},
        gateway=Endpoint("127.0.0.1", 0),
        status=Endpoint("127.0.0.1", 0),
        admin_socket=Path("/tmp/admin"),
    )

    def test_envoy_accepts_it(self, tmp_path: Path) -> None:
        config = tmp_path / "envoy.yaml"
        config.write_text(local_config(self.addresses))
        validate(config)

    def test_what_envoy_refuses_is_said(self, tmp_path: Path) -> None:
        config = tmp_path / "envoy.yaml"
        config.write_text(local_config(self.addresses).replace("LEAST_REQUEST", "LEAST_EFFORT"))
        with pytest.raises(InvalidGatewayConfigError, match="LEAST_EFFORT"):
            validate(config)

    def test_a_service_that_the_gateway_does_not_know_is_refused(self) -> None:
        addresses = LocalAddresses(
            {"resise": []}, self.addresses.gateway, self.addresses.status, self.addresses.admin_socket
        )
        with pytest.raises(ValueError, match="resise"):
            local_config(addresses)


@pytest.mark.asyncio(loop_scope="session")
async def test_calls_spread_over_replicas_and_pass_by_a_dead_one(
    new_backend: type[Backend], run_gateway: RunGateway, tmp_path: Path
) -> None:
    first, second = new_backend(), new_backend()
    await first.start()
    await second.start()
    try:
        gateway: Gateway
        async with (
            run_gateway(tmp_path, orchestrator=[first.endpoint, second.endpoint]) as gateway,
            httpx.AsyncClient(base_url=gateway.url, timeout=20) as client,
        ):
            for _ in range(20):
                assert (await client.get("/healthz")).status_code == 200
            assert first.calls
            assert second.calls

            await first.stop()
            answers = [(await client.get("/healthz")).status_code for _ in range(50)]
            assert answers.count(200) >= 47
            assert set(answers) <= {200, 503}

            await second.stop()
            response = await client.get("/healthz")
            assert response.status_code == 503
            assert response.json()["code"] == 14
            assert response.headers["retry-after"] == "1"
    finally:
        await first.stop()
        await second.stop()


@pytest.mark.asyncio(loop_scope="session")
async def test_a_service_that_answers_unavailable_is_not_shunned(gateway: Gateway, backend: Backend) -> None:
    async def refuse(request: Any, context: Any) -> Any:
        raise Unavailable("detect cannot be reached")

    backend.answers["SystemService/GetReadiness"] = refuse
    async with httpx.AsyncClient(base_url=gateway.url, timeout=20) as client:
        for _ in range(20):
            response = await client.get("/readyz")
            assert (response.status_code, response.json()["message"]) == (503, "detect cannot be reached")
        assert (await client.get("/healthz")).status_code == 200


@pytest.mark.asyncio(loop_scope="session")
async def test_past_the_circuit_breaker_callers_are_told_to_come_back(
    new_backend: type[Backend], run_gateway: RunGateway, eventually: Eventually, tmp_path: Path
) -> None:
    release = asyncio.Event()

    async def wait(request: Any, context: Any) -> Any:
        await release.wait()
        return backend.message("Execution")()

    backend = new_backend()
    await backend.start()
    backend.answers["PipelineService/ExecutePipeline"] = wait

    def one_at_a_time(text: str) -> str:
        return text.replace("max_requests: 1024", "max_requests: 1")

    try:
        async with (
            run_gateway(tmp_path, edit=one_at_a_time, orchestrator=[backend.endpoint]) as gateway,
            httpx.AsyncClient(base_url=gateway.url, timeout=20) as client,
        ):
            held = asyncio.create_task(client.post("/v1/pipelines:execute", json={}))
            await eventually(lambda: bool(backend.calls))
            response = await client.post("/v1/pipelines:execute", json={})
            assert response.status_code == 429
            assert response.headers["retry-after"] == "1"
            assert response.json()["code"] == 8
            release.set()
            assert (await held).status_code == 200
    finally:
        await backend.stop()
