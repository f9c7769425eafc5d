"""Settings that change in their directory while a component's process serves."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from imageflow.v1.component_pb2 import ComponentLimits, ComponentRequest, DescribeRequest, DescribeResponse
from tests.mounted import Mounted

Make = Callable[..., ComponentRequest]

SOON = {"IMAGEFLOW_SETTINGS_POLL_SECONDS": "0.05"}


@pytest.fixture
def mounted(tmp_path: Path) -> Mounted:
    return Mounted(tmp_path / "settings", max_in_flight=2, log_level="INFO")


@pytest.fixture
def served(serve_probe: Any, mounted: Mounted) -> Any:
    return serve_probe(SOON, settings_directory=mounted.path, max_running=2)


async def events(served: Any, message: str, count: int = 1) -> list[dict[str, Any]]:
    """Those of this name, once there are so many."""
    await asyncio.to_thread(served.wait_for, message, count)
    return [event for event in served.log if event["message"] == message]


async def limits(channel: grpc.aio.Channel) -> ComponentLimits:
    describe = channel.unary_unary(
        "/imageflow.v1.ComponentService/Describe", DescribeRequest.SerializeToString, DescribeResponse.FromString
    )
    return (await describe(DescribeRequest(), timeout=10)).limits


async def code_of(call: Any) -> str:
    try:
        await call
    except grpc.aio.AioRpcError as exc:
        return exc.code().name
    return "OK"


async def both_running(
    served: Any, channel: grpc.aio.Channel, make: Make, gates: list[Path], eventually: Any
) -> list[Any]:
    """Calls that have a thread each until their gates are there."""
    started = [gate.with_suffix(f".{number}") for number, gate in enumerate(gates)]
    calls = [
        served.call(channel, make(startedFile=str(told), awaitedFile=str(gate)))
        for gate, told in zip(gates, started, strict=True)
    ]
    await eventually(lambda: all(each.exists() for each in started))
    return calls


async def test_a_bound_below_what_is_in_flight_refuses_until_it_has_drained(
    served: Any, mounted: Mounted, probe_request: Make, tmp_path: Path, eventually: Any
) -> None:
    async with served.channel() as channel:
        gates = [tmp_path / "1", tmp_path / "2"]
        running = await both_running(served, channel, probe_request, gates, eventually)

        mounted.put(max_in_flight=1)
        [changed] = await events(served, "settings.changed")
        assert changed["changed"] == {"IMAGEFLOW_MAX_IN_FLIGHT": 1}
        assert (await limits(channel)).max_in_flight == 1
        gates[0].touch()
        assert (await running[0]).result.message == "done"
        assert await code_of(served.call(channel, probe_request())) == "RESOURCE_EXHAUSTED"
        gates[1].touch()
        assert (await running[1]).result.message == "done"
        assert await code_of(served.call(channel, probe_request())) == "OK"


async def test_a_bound_that_is_raised_admits_and_another_time_counts_for_what_comes(
    served: Any, mounted: Mounted, probe_request: Make, tmp_path: Path, eventually: Any
) -> None:
    async with served.channel() as channel:
        gate = tmp_path / "gate"
        running = await both_running(served, channel, probe_request, [gate, gate], eventually)
        assert await code_of(served.call(channel, probe_request())) == "RESOURCE_EXHAUSTED"

        mounted.put(max_in_flight=4, max_megapixels_in_flight=0.001, timeout_seconds=0.2)
        await events(served, "settings.changed")
        assert await code_of(served.call(channel, probe_request())) == "DEADLINE_EXCEEDED"  # both threads are taken
        assert await code_of(served.call(channel, probe_request(100, 100))) == "RESOURCE_EXHAUSTED"
        gate.touch()
        assert [(await call).result.message for call in running] == ["done", "done"]


async def test_a_faulty_change_changes_nothing_and_is_told_once(served: Any, mounted: Mounted) -> None:
    async with served.channel() as channel:
        for number, (faulty, told) in enumerate(
            [
                ({"max_in_flight": 9, "timeout_seconds": "-1"}, "IMAGEFLOW_TIMEOUT_SECONDS: Input should be greater"),
                ({"max_in_flight": "many"}, "IMAGEFLOW_MAX_IN_FLIGHT: Input should be a valid integer"),
                ({"max_in_flight": b"\xff\xfe"}, "can't decode"),
            ],
            1,
        ):
            mounted.put(**faulty)
            refused = await events(served, "settings.refused", number)
            assert told in refused[-1]["error"]
            assert (await limits(channel)).max_in_flight == 2

        mounted.put(max_in_flight=9)
        await events(served, "settings.changed")
        assert (await limits(channel)).max_in_flight == 9
    served.process.send_signal(signal.SIGTERM)
    assert served.finish() == 0
    assert Counter(event["message"] for event in served.log)["settings.refused"] == 3


async def test_a_directory_that_disappears_changes_nothing_until_it_is_back(served: Any, mounted: Mounted) -> None:
    async with served.channel() as channel:
        mounted.remove()
        [refused] = await events(served, "settings.refused")
        assert refused["error"].startswith("IMAGEFLOW_SETTINGS_DIRECTORY: ")
        assert (await limits(channel)).max_in_flight == 2

        mounted.put(max_in_flight=3)
        await events(served, "settings.changed")
        assert (await limits(channel)).max_in_flight == 3


async def test_a_setting_that_is_taken_out_is_its_default_again(served: Any, mounted: Mounted) -> None:
    async with served.channel() as channel:
        mounted.put()
        await events(served, "settings.changed")
        assert (await limits(channel)).max_in_flight == 50


async def test_what_cannot_change_is_told_without_its_value_and_stays(served: Any, mounted: Mounted) -> None:
    """The environment comes first; what is no setting is passed over."""
    async with served.channel() as channel:
        port, running = served.port, (await limits(channel)).max_running
        mounted.put(max_in_flight=3, port=1, max_running=1, max_image_bytes=77, max_inflight=1)

        [told] = await events(served, "settings.needs_restart")
        assert told["names"] == ["IMAGEFLOW_MAX_IMAGE_BYTES"]  # the two others are variables of this process
        assert [each["names"] for each in await events(served, "settings.unknown")] == [["IMAGEFLOW_MAX_INFLIGHT"]]
        said = await limits(channel)
    assert (served.port, said.max_running, said.max_in_flight) == (port, running, 3)
    assert said.max_payload_bytes == 64 * 1024 * 1024
    assert "77" not in str(told)


async def test_the_log_level_changes(served: Any, mounted: Mounted) -> None:
    mounted.put(max_in_flight=2, log_level="WARNING")
    [changed] = await events(served, "settings.changed")
    assert changed["changed"] == {"IMAGEFLOW_LOG_LEVEL": "WARNING"}

    served.process.send_signal(signal.SIGTERM)

    assert served.finish() == 0
    assert "component.stopped" not in {event["message"] for event in served.log}


async def test_changes_under_load_lose_no_call_and_no_slot(
    served: Any, mounted: Mounted, probe_request: Make, eventually: Any
) -> None:
    ended: Counter[str] = Counter()
    over = asyncio.Event()

    async def calls(channel: grpc.aio.Channel) -> None:
        while not over.is_set():
            ended[await code_of(served.call(channel, probe_request(60, 40, invert=True)))] += 1

    async with served.channel() as channel, asyncio.TaskGroup() as callers:
        for _ in range(8):
            callers.create_task(calls(channel))
        for number in range(1, 11):
            mounted.put(max_in_flight=number % 5 + 1, timeout_seconds=20 + number)
            await events(served, "settings.changed", number)
        before = ended["OK"]
        await eventually(lambda: ended["OK"] > before)
        over.set()
    assert ended.keys() <= {"OK", "RESOURCE_EXHAUSTED"}
    served.process.send_signal(signal.SIGTERM)
    assert served.finish() == 0
    assert served.log[-1]["abandoned"] == 0
