"""One attempt at one step: how it is asked, and what its answer or error comes to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from orchestrator_scripted import JPEG, Bench, answer, bench, eventually, never, step

from imageflow.v1.component_pb2 import ComponentRequest, ComponentResponse, DescribeRequest
from imageflow_common.errors import (
    Cancelled,
    DeadlineExceeded,
    FailedPrecondition,
    ImageFlowError,
    InvalidImage,
    Unavailable,
)
from imageflow_common.status import DETAILS_KEY, encode_details
from imageflow_orchestrator.call import Answer, GrpcCaller, Wanted
from imageflow_orchestrator.component_spec import Target
from imageflow_orchestrator.definition import SlotName
from imageflow_orchestrator.effects import ResolvedInput, StartAttempt
from imageflow_orchestrator.images import Artifact
from imageflow_orchestrator.quantities import ResourceAmounts
from imageflow_orchestrator.recycled import RecycledFiles
from imageflow_orchestrator.retryable import is_retryable

MISSING = FailedPrecondition("gone", reason="SHARED_MEMORY_MISSING")


@pytest.fixture
async def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr("imageflow_orchestrator.images.INLINE_BELOW_BYTES", 1)
    async with bench(tmp_path / "shared") as made:
        yield made
        assert made.files() == []


async def attempt(at: Bench, *, timeout: float = 9.0) -> Answer:
    (planned,) = at.plan(step("a", parameters={"filter_type": "median"})).steps
    inputs = tuple(ResolvedInput(fed.slot, fed.position, None) for fed in planned.call.inputs)
    image = at.transport.input_image(JPEG, "image/jpeg")
    try:
        answered = await at.step_caller.attempt(
            StartAttempt(planned.step_id, 3, planned.call, inputs, False),
            [image],
            Wanted(),
            namespace="ns",
            execution_id="e",
            timeout=timeout,
        )
    finally:
        at.transport.release(image)
    if answered.image is not None:
        at.transport.release(answered.image)
    return answered


async def test_an_attempt_says_who_asks_and_proves_that_it_may_name_files(shared: Bench) -> None:
    answered = await attempt(shared)

    request = shared.caller.calls[0].request
    context = request.context
    assert (context.namespace, context.execution_id, context.step_id, context.attempt) == ("ns", "e", "a", 3)
    assert context.component_version == "1.0.0"
    assert (context.capability_name, context.capability) == (
        shared.transport.capability.name,
        shared.transport.capability.secret,
    )
    assert request.inputs[0].shared_memory_name
    assert answered.transport == "shared-memory"


async def test_an_inline_attempt_shows_no_capability(tmp_path: Path) -> None:
    async with bench() as at:
        await attempt(at)

        context = at.caller.calls[0].request.context
        assert (context.capability_name, context.capability) == ("", "")


async def test_a_target_that_misses_shared_memory_is_asked_again_inline_in_the_time_that_is_left(
    shared: Bench,
) -> None:
    shared.caller.script = {"a": [MISSING]}

    answered = await attempt(shared)

    first, second = shared.caller.calls
    assert (first.request.payload, second.request.payload) == (b"", JPEG)
    assert second.request.context.capability == ""
    assert second.timeout < first.timeout
    assert answered.transport == "inline"
    assert not shared.catalog.shares_memory(shared.plan(step("a")).steps[0].call.target)


async def test_missing_shared_memory_in_an_inline_call_is_an_error(tmp_path: Path) -> None:
    async with bench() as at:
        at.caller.script = {"a": [MISSING]}

        with pytest.raises(FailedPrecondition):
            await attempt(at)

        assert len(at.caller.calls) == 1


async def test_the_file_of_a_failed_attempt_is_removed(shared: Bench) -> None:
    async def write_and_fail(request: ComponentRequest) -> ComponentResponse:
        assert shared.caller.shared is not None
        shared.caller.shared.write(request.output.shared_memory_name, b"half")
        raise InvalidImage("x")

    shared.caller.script = {"a": [write_and_fail]}

    with pytest.raises(InvalidImage):
        await attempt(shared)

    assert shared.files() == []


async def test_a_file_that_a_failed_attempt_may_read_still_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imageflow_orchestrator.images.INLINE_BELOW_BYTES", 1)
    async with bench(tmp_path / "shared", recycled=RecycledFiles(10_000_000, 60.0)) as at:
        await attempt(at)
        assert at.files() != [], "files are kept"
        at.caller.script = {"a": [Unavailable("away")]}
        with pytest.raises(Unavailable):
            await attempt(at)
        given = at.caller.calls[-1].request
        kept = at.files()
        assert given.inputs[0].shared_memory_name not in kept
        assert given.output.shared_memory_name not in kept


async def test_an_answer_elsewhere_than_asked_is_a_bad_one(shared: Bench) -> None:
    async def elsewhere(request: ComponentRequest) -> ComponentResponse:
        response = answer(request)
        response.image.shared_memory_name = shared.transport.capability.name
        return response

    shared.caller.script = {"a": [elsewhere]}
    shared.caller.shared = None

    with pytest.raises(ImageFlowError) as caught:
        await attempt(shared)

    assert caught.value.reason == "BAD_ANSWER"


def target(port: int) -> Target:
    return Target("default", f"127.0.0.1:{port}", ResourceAmounts())


@pytest.fixture
async def caller() -> AsyncIterator[GrpcCaller]:
    made = GrpcCaller(1024 * 1024)
    yield made
    await made.close()


@pytest.fixture
async def babbler() -> AsyncIterator[int]:
    """The port of a server that answers bytes that are no message."""

    async def babble(request: bytes, context: object) -> bytes:
        return b"\xff\xff\xff"

    class Whatever(grpc.GenericRpcHandler):
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
            return grpc.unary_unary_rpc_method_handler(babble)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Whatever(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield port
    await server.stop(0)


async def test_bytes_that_are_no_answer_are_a_bad_one(caller: GrpcCaller, babbler: int) -> None:
    for call in (
        caller.process(target(babbler), "/x.Y/Process", ComponentRequest(), timeout=5),
        caller.describe(target(babbler), DescribeRequest(), timeout=5),
    ):
        with pytest.raises(ImageFlowError) as caught:
            await call
        assert caught.value.reason == "BAD_ANSWER"


async def test_a_component_that_cannot_be_reached_is_told_without_its_address(caller: GrpcCaller) -> None:
    with pytest.raises(Unavailable) as caught:
        await caller.process(target(1), "/x.Y/Process", ComponentRequest(), timeout=5)

    assert caught.value.message == "the component cannot be reached"


async def test_a_call_that_a_server_ends_with_itself_is_one_that_may_be_made_again(caller: GrpcCaller) -> None:
    """gRPC's server ends as CANCELLED what it has not begun yet. What a component says so itself stays so."""
    theirs = ((DETAILS_KEY, encode_details(Cancelled("the picture was withdrawn"))),)
    for trailing, reason in (((), "COMPONENT_UNAVAILABLE"), (theirs, Cancelled.reason)):

        async def end(request: bytes, context: Any, trailing: object = trailing) -> bytes:
            await context.abort(grpc.StatusCode.CANCELLED, "", trailing)
            raise AssertionError

        server = grpc.aio.server()
        handler = grpc.unary_unary_rpc_method_handler(end)
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("x.Y", {"Process": handler})])
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        with pytest.raises(ImageFlowError) as caught:
            await caller.process(target(port), "/x.Y/Process", ComponentRequest(), timeout=5)
        await server.stop(0)

        assert caught.value.reason == reason
        assert is_retryable(caught.value) is (not trailing)


async def test_a_target_never_has_more_in_flight_than_the_registry_says(tmp_path: Path) -> None:
    """R24"""
    async with bench(tmp_path / "shared") as at:
        (planned,) = at.plan(step("a")).steps
        call = replace(planned.call, target=replace(planned.call.target, max_in_flight=1))
        start = StartAttempt(planned.step_id, 1, call, (ResolvedInput(SlotName("image"), 0, None),), False)
        images = [at.transport.input_image(JPEG, "image/jpeg") for _ in range(2)]

        caller = at.step_caller

        async def once(image: Artifact, timeout: float) -> Answer:
            return await caller.attempt(start, [image], Wanted(), namespace="ns", execution_id="e", timeout=timeout)

        at.caller.script = {"a": [never]}
        first = asyncio.create_task(once(images[0], 9.0))
        await eventually(lambda: len(at.caller.calls) == 1)
        with pytest.raises(DeadlineExceeded, match="turn at default"):
            await once(images[1], 0.05)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        for image in images:
            at.transport.release(image)
