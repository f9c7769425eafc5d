"""A rerun takes over what an ended execution had finished, and says so (R55)."""

from __future__ import annotations

from typing import Any

import pytest
from orchestrator_executions import Site
from orchestrator_scripted import Gate, never, step

from imageflow.v1.execution_pb2 import Execution
from imageflow_common.errors import AlreadyExists, FailedPrecondition, InvalidArgument, InvalidImage, NotFound
from imageflow_common.store import ObjectKey

CHAIN = (step("a", "resize"), step("b", "filter", "a"), step("c", "filter", "b"))


async def run(on: Site, *, fails: str = "", **fields: Any) -> Execution:
    if fails:
        on.at.caller.script = {fails: [InvalidImage("x")]}
    await on.accept(on.request(*CHAIN, **fields))
    done = await on.ended()
    on.at.caller.calls.clear()
    return done


def called(on: Site) -> list[str]:
    return [call.step_id for call in on.at.caller.calls]


async def test_a_failed_execution_runs_again_from_the_step_that_failed(on: Site) -> None:
    await run(on, fails="b", output_path="out.jpg")

    await on.rerun()
    done = await on.ended("r")

    assert (done.status, done.rerun_of, list(done.reused_steps)) == (Execution.COMPLETED, "e", ["a"])
    assert called(on) == ["b", "c"]
    assert done.final_output_path == "out.jpg"
    assert (await on.record()).status == Execution.FAILED


async def test_what_is_taken_over_is_a_copy_that_outlives_the_old_execution(on: Site) -> None:
    old = await run(on, fails="b")
    await on.rerun()
    done = await on.ended("r")

    await on.records.delete(old)

    assert done.results["a"].output_path == "artifacts/default/r/a/1"
    assert (await on.store.get(ObjectKey("artifacts/default/r/a/1"))).data
    assert done.results["a"].component_name == "resize"


async def test_a_completed_execution_runs_again_from_a_named_step_with_other_parameters(on: Site) -> None:
    old = await run(on)

    await on.rerun(from_step="b", b__filterIntensity=0.5)
    done = await on.ended("r")

    assert (done.status, list(done.reused_steps), called(on)) == (Execution.COMPLETED, ["a"], ["b", "c"])
    assert on.at.caller.calls[0].request.parameters != b""
    assert done.final_output_path != old.final_output_path


async def test_a_completed_execution_without_a_step_to_start_from_takes_everything_over(on: Site) -> None:
    old = await run(on)

    await on.rerun()
    done = await on.ended("r")

    assert (called(on), list(done.reused_steps)) == ([], ["a", "b", "c"])
    first, second = [await on.store.get(ObjectKey(each.final_output_path)) for each in (old, done)]
    assert (first.data, done.final_output_path) == (second.data, "artifacts/default/r/c/1")


async def test_the_same_rerun_again_is_the_same_execution_and_another_is_refused(on: Site) -> None:
    await run(on)
    await on.rerun(from_step="b")
    done = await on.ended("r")

    assert await on.rerun(from_step="b") == done
    for other in ({"from_step": "c"}, {"from_step": "b", "b__filterIntensity": 0.25}):
        with pytest.raises(AlreadyExists):
            await on.rerun(**other)


async def test_a_rerun_under_an_id_that_is_taken_touches_nothing_of_its_owner(on: Site) -> None:
    await run(on)
    await on.accept(on.request(step("a"), quality=50), "r")
    await on.ended("r")
    before = {key: (await on.store.head(ObjectKey(key))).generation for key in await on.keys("")}

    with pytest.raises(AlreadyExists):
        await on.rerun()

    assert {key: (await on.store.head(ObjectKey(key))).generation for key in await on.keys("")} == before


async def test_a_running_execution_or_an_unknown_one_cannot_run_again(on: Site) -> None:
    on.at.caller.script = {"a": [never]}
    await on.accept(on.request(*CHAIN))

    with pytest.raises(FailedPrecondition) as caught:
        await on.rerun()
    with pytest.raises(NotFound):
        await on.rerun("nobody")

    assert caught.value.reason == "EXECUTION_RUNNING"


async def test_a_batch_cannot_run_again_but_its_images_can(on: Site) -> None:
    request = on.request(step("a"), input_path="")
    request.batch.paths.append("in.jpg")
    await on.accept(request)
    await on.ended()

    with pytest.raises(FailedPrecondition) as caught:
        await on.rerun()
    await on.rerun("e.00000")

    assert caught.value.reason == "NOT_RERUNNABLE"
    assert (await on.ended("r")).parent_execution_id == ""


async def test_a_step_that_there_is_not_or_an_override_that_would_do_nothing_is_refused(on: Site) -> None:
    await run(on, fails="b")

    with pytest.raises(InvalidArgument) as unknown:
        await on.rerun(from_step="z")
    with pytest.raises(InvalidArgument) as useless:
        await on.rerun(a__width=5)
    with pytest.raises(InvalidArgument):
        await on.rerun(b__nothing=5)

    assert unknown.value.violations[0].field == "fromStep"
    assert useless.value.violations[0].field == "overrides.a.width"
    assert await on.keys(".imageflow/records/default/r") == []


async def test_an_image_that_is_gone_is_said_at_once(on: Site) -> None:
    await run(on, fails="b")
    await on.store.delete(ObjectKey("artifacts/default/e/a/1"))

    with pytest.raises(FailedPrecondition) as caught:
        await on.rerun()
    await on.rerun(from_step="a")

    assert caught.value.reason == "ARTIFACT_GONE"
    assert (await on.ended("r")).status == Execution.COMPLETED


async def test_an_image_that_goes_before_the_rerun_begins_is_computed_again_and_not_called_reused(on: Site) -> None:
    await run(on, fails="b")
    on.executions._holds_queue = False
    await on.rerun()
    await on.store.delete(ObjectKey("artifacts/default/e/a/1"))
    on.executions._holds_queue = True

    await on.executions.recover()
    done = await on.ended("r")

    assert (done.status, list(done.reused_steps), called(on)) == (Execution.COMPLETED, [], ["a", "b", "c"])


async def test_an_execution_that_kept_nothing_runs_again_from_the_start(on: Site) -> None:
    on.at.caller.script = {"b": [InvalidImage("x")]}
    await on.execute(on.request(*CHAIN))
    on.at.caller.calls.clear()

    await on.rerun()
    done = await on.ended("r")

    assert (done.status, called(on)) == (Execution.COMPLETED, ["a", "b", "c"])


async def test_a_rerun_can_itself_run_again(on: Site) -> None:
    await run(on, fails="b")
    on.at.caller.script = {"c": [InvalidImage("x")]}
    await on.rerun()
    await on.ended("r")

    await on.rerun("r", new_id="s")
    done = await on.ended("s")

    assert (done.status, done.rerun_of, list(done.reused_steps)) == (Execution.COMPLETED, "r", ["a", "b"])


async def test_a_looker_is_taken_over_with_what_it_found(on: Site) -> None:
    gate = Gate(InvalidImage("x"))
    gate.open()
    on.at.caller.script = {"c": [gate]}
    await on.accept(on.request(step("a"), step("look", "detect", "a"), step("c", "filter", "look")))
    old = await on.ended()

    await on.rerun()
    done = await on.ended("r")

    assert list(done.reused_steps) == ["a", "look"]
    assert done.results["look"].metadata == old.results["look"].metadata
