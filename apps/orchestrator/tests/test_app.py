"""The orchestrator as a process."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


def environment(tmp_path: Path, **settings: object) -> dict[str, str]:
    chosen = {"store_url": f"file://{tmp_path / 'store'}", "shared_directory": tmp_path / "shared", **settings}
    return os.environ | {f"IMAGEFLOW_{name.upper()}": str(value) for name, value in chosen.items()}


@asynccontextmanager
async def process(tmp_path: Path, **settings: object) -> AsyncIterator[asyncio.subprocess.Process]:
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "imageflow_orchestrator",
        env=environment(tmp_path, **settings),
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()


async def ready_line(started: asyncio.subprocess.Process) -> dict[str, object]:
    assert started.stderr is not None
    async for line in started.stderr:
        fields: dict[str, object] = json.loads(line)
        if fields["message"] == "orchestrator.ready":
            return fields
    raise AssertionError("it ended before it was ready")


async def test_it_serves_until_it_is_told_to_end_and_leaves_nothing_in_shared_memory(tmp_path: Path) -> None:
    """Components need not be there."""
    async with process(tmp_path, port=0) as started:
        line = await ready_line(started)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{line['port']}") as channel:
            answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert (line["service"], line["level"]) == ("orchestrator", "INFO")

        started.send_signal(signal.SIGTERM)

        assert await started.wait() == 0
        assert os.listdir(tmp_path / "shared") == []


async def test_a_port_that_is_taken_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        async with process(tmp_path, port=taken.getsockname()[1]) as started:
            _, said = await started.communicate()

    assert started.returncode == 1
    assert b"is the port taken?" in said.splitlines()[-1]
    assert b"Traceback" not in said


async def test_a_faulty_registry_is_told_with_every_fault(tmp_path: Path) -> None:
    path = tmp_path / "registry.yaml"
    await asyncio.to_thread(path.write_text, "components: {a: {}, b: {targets: {default: {profile: huge}}}}")
    async with process(tmp_path, port=0, registry_file=path) as started:
        _, said = await started.communicate()

    assert started.returncode == 1
    assert b"components.a.targets" in said
    assert b"components.b.targets.default.profile" in said
    assert b"Traceback" not in said
