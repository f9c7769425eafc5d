"""One pipeline over many images: a parent whose children are executions of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from orchestrator_executions import Site, site, until
from orchestrator_scripted import JPEG, Gate, eventually, never, step

from imageflow.v1.component_pb2 import ComponentRequest, ComponentResponse
from imageflow.v1.execution_pb2 import Execution
from imageflow.v1.record_pb2 import RecordedRequest
from imageflow_common.errors import AlreadyExists, InvalidArgument, InvalidKey, Overloaded
from imageflow_common.store import ObjectKey
from imageflow_orchestrator import batch as module
from imageflow_orchestrator.batch import resolve_batch


@pytest.fixture
async def on(tmp_path: Path) -> AsyncIterator[Site]:
    async with site(tmp_path, max_per_namespace=3) as made:
        for number in range(6):
            await made.store.put(ObjectKey(f"in/{number}.jpg"), JPEG, media_type="image/jpeg")
        yield made


def batch(on: Site, *paths: str, prefix: str = "", output_prefix: str = "", **fields: Any) -> RecordedRequest:
    concurrency = fields.pop("concurrency", 0)
    request = on.request(step("a"), input_path="", **fields)
    request.batch.paths.extend(paths)
    request.batch.prefix, request.batch.output_prefix, request.batch.concurrency = prefix, output_prefix, concurrency
    return request


async def begun(on: Site, request: RecordedRequest) -> None:
    await resolve_batch(request, on.store)
    await on.accept(request)


async def children(on: Site, count: int) -> list[Execution]:
    return [await on.record(f"e.{number:05d}") for number in range(count)]


async def test_each_image_of_a_list_and_of_a_prefix_is_an_execution_of_its_own(on: Site) -> None:
    await begun(on, batch(on, "in.jpg", "in/0.jpg", prefix="in/", output_prefix="out", output_format="jpeg"))
    done = await on.ended()

    assert done.status == Execution.COMPLETED
    assert (done.batch.total, done.batch.completed) == (7, 7)
    found = await children(on, 7)
    assert {each.parent_execution_id for each in found} == {"e"}
    assert [each.input_path for each in found[:3]] == ["in.jpg", "in/0.jpg", "in/1.jpg"]
    assert [each.final_output_path for each in found[:2]] == ["out/in.jpg", "out/0.jpg"]
    assert [each["status"] for each in on.completions()] == ["completed"]
    assert len(on.completions("e.00003")) == 1
    assert await on.markers() == []


async def test_one_bad_image_fails_alone(on: Site) -> None:
    await on.store.put(ObjectKey("in/2.jpg"), b"no image", media_type="image/jpeg")
    await on.store.delete(ObjectKey("in/4.jpg"))
    await begun(on, batch(on, *(f"in/{number}.jpg" for number in range(6))))
    done = await on.ended()

    assert (done.status, done.error.reason) == (Execution.FAILED, "BATCH_INCOMPLETE")
    assert (done.batch.total, done.batch.completed, done.batch.failed) == (6, 4, 2)
    assert [each.error.reason for each in await children(on, 6) if each.status == Execution.FAILED] == [
        "UNSUPPORTED_IMAGE",
        "OBJECT_NOT_FOUND",
    ]


async def test_an_image_whose_execution_id_is_taken_fails_alone(on: Site) -> None:
    await on.accept(on.request(), "e.00001")
    await on.ended("e.00001")
    await begun(on, batch(on, "in/0.jpg", "in/1.jpg"))
    done = await on.ended()

    assert (done.batch.completed, done.batch.failed) == (1, 1)


@pytest.mark.parametrize(("asked", "expected"), [(1, 1), (2, 2), (0, 3)])
async def test_no_more_images_are_processed_at_once_than_asked_for_or_than_there_are_slots(
    on: Site, asked: int, expected: int
) -> None:
    running = most = 0
    full = asyncio.Event()

    async def count(request: ComponentRequest) -> ComponentResponse:
        from orchestrator_scripted import answer

        nonlocal running, most
        running += 1
        most = max(most, running)
        if running >= expected:
            full.set()
        await full.wait()
        await asyncio.sleep(0.01)  # for one more to come that may not
        running -= 1
        return answer(request)

    on.at.caller.script = {"a": [count] * 6}
    await begun(on, batch(on, prefix="in/", concurrency=asked))
    await on.ended()

    assert most == expected


async def test_a_batch_is_cancelled_with_every_image_that_has_not_ended(on: Site) -> None:
    """R54"""
    gate = Gate()
    gate.open()
    on.at.caller.script = {"a": [gate, never, never, never]}
    await begun(on, batch(on, prefix="in/", concurrency=4))
    await eventually(lambda: len(on.at.caller.calls) == 4)
    await until(lambda: _fifth(on))

    cancelled = await on.executions.cancel("default", "e", "enough")

    assert (cancelled.status, cancelled.error.message) == (Execution.CANCELLED, "enough")
    assert (cancelled.batch.completed, cancelled.batch.cancelled) == (1, 4)
    states = sorted(Execution.State.Name(each.status) for each in await children(on, 5))
    assert states == ["CANCELLED"] * 4 + ["COMPLETED"]
    assert await on.keys(".imageflow/records/default/e.00005") == []
    assert on.engine.admission.running == 0


async def _fifth(on: Site) -> bool:
    return bool(await on.keys(".imageflow/records/default/e.00004"))


async def test_a_batch_whose_end_was_asked_for_while_nobody_ran_it_ends_its_images_too(tmp_path: Path) -> None:
    async with site(tmp_path, script={"a": [never, never]}) as first:
        await first.accept(batch(first, "in.jpg", "gone.jpg"))
        await eventually(lambda: len(first.at.caller.calls) == 1)
        await first.executions.stop(0.01)
    async with site(tmp_path, script={"a": [never]}) as second:
        await second.executions.cancel("default", "e", "enough")
        await second.executions.recover()
        done = await second.ended()
        await second.executions.recover()

        assert done.status == Execution.CANCELLED
        assert (await second.ended("e.00000")).status == Execution.CANCELLED
        assert await second.markers() == []


async def test_a_batch_goes_on_while_too_many_executions_are_pending_for_others(tmp_path: Path) -> None:
    async with site(tmp_path, max_pending=1) as on:
        await on.accept(batch(on, "in.jpg"))
        with pytest.raises(Overloaded):
            await on.accept(on.request(), "other")

        assert (await on.ended()).status == Execution.COMPLETED


async def test_the_images_of_a_prefix_are_those_of_its_acceptance(on: Site) -> None:
    """R55"""
    request = batch(on, prefix="in/")
    await resolve_batch(request, on.store)
    await on.store.put(ObjectKey("in/9.jpg"), JPEG, media_type="image/jpeg")
    await on.accept(request)

    assert (await on.ended()).batch.total == 6


async def test_what_lies_next_to_an_output_is_no_image(on: Site) -> None:
    await on.store.put(ObjectKey("in/0.jpg.json"), b"{}", media_type="application/json")
    request = batch(on, prefix="in/")

    await resolve_batch(request, on.store)

    assert list(request.batch.paths) == [f"in/{number}.jpg" for number in range(6)]


async def test_a_batch_of_nothing_or_of_too_much_is_refused(on: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_IMAGES", 5)
    for request in (batch(on), batch(on, prefix="nothing/"), batch(on, prefix="in/"), batch(on, *["in.jpg"] * 6)):
        with pytest.raises(InvalidArgument) as caught:
            await resolve_batch(request, on.store)
        assert caught.value.violations[0].field == "batch"


@pytest.mark.parametrize("key", ["../x", ".imageflow/x", "a//b"])
async def test_a_key_that_is_none_refuses_the_whole_batch(on: Site, key: str) -> None:
    for request in (batch(on, key), batch(on, "in.jpg", output_prefix=key)):
        with pytest.raises(InvalidKey):
            await resolve_batch(request, on.store)


async def test_two_images_with_one_output_are_refused(on: Site) -> None:
    request = batch(on, "a/x.png", "a/x.jpg", output_prefix="out", output_format="webp")

    with pytest.raises(InvalidArgument) as caught:
        await resolve_batch(request, on.store)

    assert caught.value.violations[0].field == "batch.outputPrefix"


async def test_the_same_batch_again_is_the_same_execution(on: Site) -> None:
    await begun(on, batch(on, "in/0.jpg"))
    await on.ended()

    await begun(on, batch(on, "in/0.jpg"))
    with pytest.raises(AlreadyExists):
        await begun(on, batch(on, "in/1.jpg"))

    assert len(on.at.caller.calls) == 1


async def test_a_child_of_a_parent_with_the_longest_id_has_an_id(on: Site) -> None:
    request = batch(on, "in/0.jpg")
    await resolve_batch(request, on.store)
    await on.accept(request, "x" * 128)

    assert (await on.ended("x" * 128)).batch.completed == 1
