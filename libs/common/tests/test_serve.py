"""A component served by a process of its own: admission, deadlines, cancellation and the end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from imageflow.v1.component_pb2 import ComponentRequest, DescribeRequest, DescribeResponse
from imageflow_common.errors import (
    Cancelled,
    DeadlineExceeded,
    ImageFlowError,
    InvalidArgument,
    Overloaded,
    Unavailable,
)
from imageflow_common.shared import SharedDirectory
from imageflow_common.status import from_rpc_error

Make = Callable[..., ComponentRequest]


class Gate:
    """Makes a request's computation tell that it started, and wait."""

    def __init__(self, folder: Path, name: str = "gate") -> None:
        self._started, self._open = folder / f"{name}.started", folder / f"{name}.open"

    @property
    def parameters(self) -> dict[str, Any]:
        return {"startedFile": str(self._started), "awaitedFile": str(self._open)}

    def started(self) -> bool:
        return self._started.exists()

    def open(self) -> None:
        self._open.touch()


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


async def _error_of(call: Any) -> ImageFlowError:
    error = await _error_or_none(call)
    assert error is not None, "the call succeeded"
    return error


async def _error_or_none(call: Any) -> ImageFlowError | None:
    try:
        await call
    except grpc.aio.AioRpcError as exc:
        return from_rpc_error(exc)
    except asyncio.CancelledError:
        return Cancelled()
    return None


async def _free(served: Any, channel: grpc.aio.Channel, request: ComponentRequest) -> None:
    """Waits until a slot is free again."""
    while True:
        try:
            await served.call(channel, request)
        except grpc.aio.AioRpcError as exc:
            if type(from_rpc_error(exc)) is not Overloaded:
                raise
            await asyncio.sleep(0.01)
        else:
            return


def _stopped(served: Any) -> dict[str, Any]:
    """The last event of a component that ended in order."""
    (event,) = [event for event in served.log if event["message"] == "component.stopped"]
    return dict(event)


async def test_a_served_component_describes_itself(serve_probe: Any, tmp_path: Path) -> None:
    served = serve_probe(shared_directory=tmp_path / "shm", max_in_flight=7)
    shared = SharedDirectory(tmp_path / "shm")
    capability = shared.grant("o1")
    async with served.channel() as channel:
        method = _describe(channel)
        for secret, sees in (("", False), ("0" * 64, False), (capability.secret, True)):
            request = DescribeRequest(shared_memory_capability_name="o1", shared_memory_capability=secret)
            description = await method(request, timeout=10)
            assert description.shared_memory == sees
    assert (description.component_name, description.limits.max_in_flight) == ("probe", 7)
    assert '"cutLeft"' in description.parameters_schema_json
    shared.close()


async def test_requests_past_the_limit_are_refused_with_a_time_to_come_back(
    serve_probe: Any, probe_request: Make, gate: Gate, eventually: Any
) -> None:
    served = serve_probe(max_in_flight=2, max_running=1)
    async with served.channel() as channel:
        running = [served.call(channel, probe_request(**gate.parameters)) for _ in range(2)]
        await eventually(gate.started)
        errors = await asyncio.gather(*(_error_of(served.call(channel, probe_request())) for _ in range(5)))
        gate.open()
        assert [(await call).result.message for call in running] == ["done", "done"]
        await served.call(channel, probe_request())
    assert {(type(error), error.retry_after) for error in errors} == {(Overloaded, timedelta(milliseconds=200))}


async def test_megapixels_past_the_limit_are_refused_but_one_image_is_always_taken(
    serve_probe: Any, probe_request: Make, gate: Gate, eventually: Any
) -> None:
    served = serve_probe(max_megapixels_in_flight=0.01)
    async with served.channel() as channel:
        running = served.call(channel, probe_request(200, 100, **gate.parameters))
        await eventually(gate.started)
        error = await _error_of(served.call(channel, probe_request()))
        gate.open()
        assert (await running).result.message == "done"
        await served.call(channel, probe_request(200, 100))
    assert type(error) is Overloaded


@pytest.mark.parametrize("how", ["cancelled", "deadline", "own timeout"])
async def test_a_call_that_is_given_up_keeps_its_slot_until_its_thread_ends(
    serve_probe: Any, probe_request: Make, gate: Gate, eventually: Any, how: str
) -> None:
    served = serve_probe(max_in_flight=1, max_running=1, timeout_seconds=0.5 if how == "own timeout" else 30)
    async with served.channel() as channel:
        call = served.call(channel, probe_request(**gate.parameters), timeout=0.5 if how == "deadline" else 20)
        await eventually(gate.started)
        if how == "cancelled":
            call.cancel()
        assert type(await _error_of(call)) is (Cancelled if how == "cancelled" else DeadlineExceeded)
        assert type(await _error_of(served.call(channel, probe_request()))) is Overloaded
        gate.open()
        await _free(served, channel, probe_request())


async def test_a_component_whose_threads_do_not_come_back_says_so_until_one_does(
    serve_probe: Any, probe_request: Make, gate: Gate, eventually: Any
) -> None:
    served = serve_probe(max_in_flight=4, max_running=1)
    async with served.channel() as channel:
        method = _describe(channel)
        check = health_pb2_grpc.HealthStub(channel).Check
        gone = await _error_of(served.call(channel, probe_request(**gate.parameters), timeout=0.3))
        assert type(gone) is DeadlineExceeded
        while not isinstance(error := await _error_or_none(method(DescribeRequest(), timeout=10)), ImageFlowError):
            assert (await check(health_pb2.HealthCheckRequest())).status == health_pb2.HealthCheckResponse.SERVING
            await asyncio.sleep(0.1)
        assert (error.reason, type(error)) == ("WORKERS_STUCK", Unavailable)
        assert "probe: all 1 threads compute what nobody waits for" in error.message
        await _has_health(channel, health_pb2.HealthCheckResponse.NOT_SERVING)
        gate.open()
        await _has_health(channel, health_pb2.HealthCheckResponse.SERVING)
        assert (await method(DescribeRequest(), timeout=10)).component_name == "probe"


def _describe(channel: grpc.aio.Channel) -> Any:
    return channel.unary_unary(
        "/imageflow.v1.ComponentService/Describe", DescribeRequest.SerializeToString, DescribeResponse.FromString
    )


async def _has_health(channel: grpc.aio.Channel, status: int) -> None:
    async for told in health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=30):
        if told.status == status:
            return


async def test_a_call_that_waits_gives_its_slot_back_at_once(
    serve_probe: Any, probe_request: Make, tmp_path: Path, gate: Gate, eventually: Any
) -> None:
    served = serve_probe(max_in_flight=2, max_running=1)
    never = Gate(tmp_path, "never")
    async with served.channel() as channel:
        running = served.call(channel, probe_request(**gate.parameters))
        await eventually(gate.started)
        waiting = served.call(channel, probe_request(**never.parameters), timeout=0.3)
        assert type(await _error_of(waiting)) is DeadlineExceeded
        next_one = asyncio.ensure_future(_free(served, channel, probe_request()))
        gate.open()
        await asyncio.gather(running, next_one)
    assert not never.started()


@pytest.mark.parametrize("how", ["cancelled", "deadline"])
async def test_output_of_a_call_that_was_given_up_is_removed_when_its_thread_ends(
    serve_probe: Any, probe_request: Make, tmp_path: Path, gate: Gate, eventually: Any, how: str
) -> None:
    served = serve_probe(shared_directory=tmp_path / "shm", max_in_flight=1)
    shared = SharedDirectory(tmp_path / "shm")
    capability = shared.grant("o1")
    request = probe_request(400, 300, invert=True, **gate.parameters)
    request.context.capability_name, request.context.capability = capability.name, capability.secret
    request.output.shared_memory_name = "o1.out"
    async with served.channel() as channel:
        call = served.call(channel, request, timeout=0.5 if how == "deadline" else 20)
        await eventually(gate.started)
        if how == "cancelled":
            call.cancel()
        await _error_of(call)
        gate.open()
        await _free(served, channel, probe_request())
        await eventually(lambda: list(shared.names()) == ["o1"])
        assert (await served.call(channel, request)).image.shared_memory_name == "o1.out"
    assert sorted(shared.names()) == ["o1", "o1.out"]
    shared.close()


async def test_a_call_that_fails_removes_nothing_it_may_not_name(
    serve_probe: Any, probe_request: Make, tmp_path: Path
) -> None:
    served = serve_probe(shared_directory=tmp_path / "shm")
    shared = SharedDirectory(tmp_path / "shm")
    shared.write("o1.kept", b"x")
    request = probe_request(invert=True, fail=True)
    request.output.shared_memory_name = "o1.kept"
    async with served.channel() as channel:
        await _error_of(served.call(channel, request))
    assert list(shared.names()) == ["o1.kept"]
    shared.close()


async def test_timings_tell_the_wait(serve_probe: Any, probe_request: Make, gate: Gate, eventually: Any) -> None:
    served = serve_probe(max_running=1)
    async with served.channel() as channel:
        first = served.call(channel, probe_request(**gate.parameters))
        await eventually(gate.started)
        second = asyncio.ensure_future(served.call(channel, probe_request()))
        await asyncio.sleep(0.05)
        gate.open()
        await first
        timings = (await second).result.timings
    assert 0 < timings.queue_ms <= timings.total_ms


async def test_a_fault_of_the_function_tells_the_log_and_not_the_caller(serve_probe: Any, probe_request: Make) -> None:
    served = serve_probe()
    request = probe_request(fail=True)
    request.context.execution_id, request.context.step_id = "e1", "s1"
    async with served.channel() as channel:
        error = await _error_of(served.call(channel, request))
        assert (error.code, error.message) == ("INTERNAL", "internal error")
        await served.call(channel, probe_request())
    served.process.send_signal(signal.SIGTERM)
    assert served.finish() == 0
    (failed,) = [event for event in served.log if event["level"] == "ERROR"]
    assert "/a/path/of/ours" in failed["exception"]
    assert (failed["component"], failed["execution_id"], failed["step_id"]) == ("probe", "e1", "s1")


async def test_garbage_harms_only_its_own_call(serve_probe: Any, probe_request: Make) -> None:
    served = serve_probe()
    async with served.channel() as channel:
        for garbage in (b"\xff", b"\x0a\xff", os.urandom(64)):
            error = await _error_of(channel.unary_unary("/acme.v1.ProbeService/Process")(garbage, timeout=10))
            assert type(error) is InvalidArgument
        await served.call(channel, probe_request())


async def test_sigterm_finishes_what_runs_and_exits_with_0(
    serve_probe: Any, probe_request: Make, gate: Gate, eventually: Any
) -> None:
    served = serve_probe()
    async with served.channel() as channel:
        running = asyncio.ensure_future(served.call(channel, probe_request(**gate.parameters)))
        await eventually(gate.started)
        served.process.send_signal(signal.SIGTERM)
        await _until_closed(served.port)
        gate.open()
        assert (await running).result.message == "done"
    assert served.finish() == 0
    assert _stopped(served)["abandoned"] == 0


async def _until_closed(port: int) -> None:
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return
        writer.close()
        await asyncio.sleep(0.01)


async def test_what_outlives_the_grace_does_not_keep_the_process(
    serve_probe: Any, probe_request: Make, gate: Gate, eventually: Any
) -> None:
    served = serve_probe(shutdown_grace_seconds=0.1)
    async with served.channel() as channel:
        running = asyncio.ensure_future(_error_of(served.call(channel, probe_request(**gate.parameters))))
        await eventually(gate.started)
        served.process.send_signal(signal.SIGTERM)
        assert (await running).code in ("UNAVAILABLE", "CANCELLED")
    assert await asyncio.to_thread(served.finish) == 1
    assert _stopped(served)["abandoned"] == 1


async def test_a_second_signal_ends_it_at_once(
    serve_probe: Any, probe_request: Make, gate: Gate, eventually: Any
) -> None:
    served = serve_probe()
    async with served.channel() as channel:
        running = asyncio.ensure_future(_error_of(served.call(channel, probe_request(**gate.parameters))))
        await eventually(gate.started)
        served.process.send_signal(signal.SIGTERM)
        await _until_closed(served.port)
        served.process.send_signal(signal.SIGTERM)
        assert type(await running) is Unavailable
    assert served.finish() == 130


async def test_a_component_killed_in_mid_request_is_unavailable_and_so_worth_a_retry(
    serve_probe: Any, probe_request: Make, gate: Gate, eventually: Any
) -> None:
    served = serve_probe()
    async with served.channel() as channel:
        running = asyncio.ensure_future(_error_of(served.call(channel, probe_request(**gate.parameters))))
        await eventually(gate.started)
        served.process.kill()
        error = await running
    assert (type(error), error.retryable) == (Unavailable, True)


def _run(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(Path(__file__).parent / "components" / "probe.py"), *arguments]
    return subprocess.run(command, env=os.environ | environ, capture_output=True, text=True, timeout=30)


def test_a_port_that_is_taken_is_said_in_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = _run(IMAGEFLOW_PORT=str(port))
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == f"probe: cannot listen on 127.0.0.1:{port}: is the port taken?"
    assert "Traceback" not in ended.stderr


def test_faulty_settings_end_it_with_78() -> None:
    ended = _run(IMAGEFLOW_PORT="x", IMAGEFLOW_MAX_RUNNING="0")
    assert ended.returncode == 78
    assert len(ended.stderr.splitlines()) == 2


def test_a_component_tells_its_version() -> None:
    ended = _run("--version")
    assert (ended.returncode, ended.stdout) == (0, "probe 1.2.0\n")


def test_many_threads_do_not_miscount(serve_probe: Any, probe_request: Make) -> None:
    """The slots in flight come back to none, whatever happened to the calls."""
    served = serve_probe(max_in_flight=4, max_running=2)
    outcomes: list[str] = []

    async def calls(seed: int) -> None:
        async with served.channel() as channel:
            for number in range(25):
                timeout = 0.002 if (number + seed) % 3 == 0 else 10
                request = probe_request(60, 40, invert=True, fail=number % 5 == 0)
                try:
                    await served.call(channel, request, timeout=timeout)
                    outcomes.append("OK")
                except grpc.aio.AioRpcError as exc:
                    outcomes.append(exc.code().name)

    threads = [threading.Thread(target=lambda seed=seed: asyncio.run(calls(seed))) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert set(outcomes) <= {"OK", "INTERNAL", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED"}
    served.process.send_signal(signal.SIGTERM)
    assert served.finish() == 0
    assert _stopped(served)["abandoned"] == 0
