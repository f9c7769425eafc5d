"""Watching an execution: how it stands first, every event in order, the terminal one last."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from orchestrator_executions import Site, site
from orchestrator_scripted import Gate, eventually, step

from imageflow.v1.execution_pb2 import Execution
from imageflow.v1.execution_service_pb2 import ExecutionEvent
from imageflow_common.errors import NotFound
from imageflow_orchestrator import watch as module


class Watching:
    """Takes in a watch's messages as they come, or when told to."""

    def __init__(self, on: Site, *, after: int = 0, namespace: str = "default") -> None:
        self._messages = on.watcher.watch(namespace, "e", after)
        self.seen: list[ExecutionEvent] = []
        self.task: asyncio.Task[None] | None = None

    async def one(self) -> ExecutionEvent:
        async with asyncio.timeout(5):
            message = await anext(self._messages)
        self.seen.append(message)
        return message

    async def rest(self) -> list[ExecutionEvent]:
        async with asyncio.timeout(5):
            async for message in self._messages:
                self.seen.append(message)
        return self.seen


def said(messages: list[ExecutionEvent]) -> list[tuple[str, str]]:
    return [(each.step_id, Execution.State.Name(each.status)) for each in messages]


async def test_a_watch_begins_with_how_things_stand_and_ends_with_the_outcome(on: Site) -> None:
    gate = Gate()
    on.at.caller.script = {"a": [gate]}
    await on.accept(on.request(step("a"), step("b", "filter", "a")))
    await eventually(lambda: on.at.caller.running == {"a"})
    watching = Watching(on)

    first = await watching.one()
    gate.open()
    first_and_rest = await watching.rest()

    assert (first.number, first.execution.results["a"].status) == (0, Execution.RUNNING)
    assert said(first_and_rest[1:]) == [
        ("a", "COMPLETED"),
        ("b", "RUNNING"),
        ("b", "COMPLETED"),
        ("", "COMPLETED"),
    ]
    numbers = [each.number for each in first_and_rest]
    assert numbers == sorted(set(numbers))
    assert [each.terminal for each in first_and_rest] == [False] * 4 + [True]
    assert first_and_rest[-1].execution == await on.record()


async def test_an_execution_watched_from_its_acceptance_shows_every_change_once(on: Site) -> None:
    on.executions._holds_queue = False
    await on.accept(on.request(step("a"), step("b", "filter", "a")))
    watching = Watching(on)
    await watching.one()
    await on.executions.recover()
    messages = await watching.rest()

    assert said(messages)[0] == ("", "PENDING")
    assert said(messages)[1:] == [
        ("", "RUNNING"),
        ("a", "RUNNING"),
        ("a", "COMPLETED"),
        ("b", "RUNNING"),
        ("b", "COMPLETED"),
        ("", "COMPLETED"),
    ]


async def test_a_watch_is_taken_up_behind_the_last_event_that_was_seen(on: Site) -> None:
    gate = Gate()
    on.at.caller.script = {"b": [gate]}
    await on.accept(on.request(step("a"), step("b", "filter", "a")))
    await eventually(lambda: on.at.caller.running == {"b"})

    again = Watching(on, after=2)
    await again.one()
    gate.open()
    messages = await again.rest()

    assert said(messages[1:])[:2] == [("a", "COMPLETED"), ("b", "RUNNING")]
    assert messages[1].number == 3
    numbers = [each.number for each in messages]
    assert numbers == sorted(set(numbers))


async def test_a_finished_execution_is_one_terminal_message(on: Site) -> None:
    await on.accept(on.request())
    done = await on.ended()

    (only,) = await Watching(on).rest()

    assert (only.terminal, only.execution, only.number) == (True, done, 0)


@pytest.mark.parametrize("removed", ["delete", "expire"])
async def test_an_execution_that_is_not_there_any_more_is_not_found(on: Site, removed: str) -> None:
    await on.accept(on.request())
    done = await on.ended()
    if removed == "delete":
        await on.records.delete(done)
    else:
        await on.janitor.sweep(done.expire_time.ToDatetime().astimezone() + 2 * on.janitor._retention)

    for namespace in ("default", "other"):
        with pytest.raises(NotFound):
            await Watching(on, namespace=namespace).one()


async def test_a_watcher_that_is_too_slow_is_told_what_it_missed_and_how_things_stand(tmp_path: Path) -> None:
    gate = Gate()
    async with site(tmp_path, queue_size=2, script={"a": [gate]}) as on:
        await on.accept(on.request(step("a"), step("b", "filter", "a"), step("c", "filter", "b")))
        await eventually(lambda: on.at.caller.running == {"a"})
        watching = Watching(on)
        await watching.one()
        gate.open()
        done = await on.ended()

        messages = await watching.rest()

        assert messages[1].missed > 0
        assert messages[1].execution == done
        assert (messages[-1].terminal, messages[-1].execution) == (True, done)


async def test_a_watch_ends_when_no_event_told_of_the_end(on: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are hints; the record is the truth."""
    monkeypatch.setattr(module, "_LOOK_AGAIN_SECONDS", 0.01)
    gate = Gate()
    on.at.caller.script = {"a": [gate]}
    await on.accept(on.request())
    await eventually(lambda: on.at.caller.running == {"a"})
    watching = Watching(on)
    await watching.one()
    await on.events.close()
    gate.open()

    assert (await watching.rest())[-1].execution.status == Execution.COMPLETED


async def test_an_execution_deleted_while_it_is_watched_ends_the_watch(
    on: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_LOOK_AGAIN_SECONDS", 0.01)
    on.executions._holds_queue = False
    await on.accept(on.request())
    watching = Watching(on)
    await watching.one()

    await on.records.delete(await on.record())

    assert [each.terminal for each in await watching.rest()] == [False, True]


async def test_a_quiet_watch_gives_a_sign_of_life(on: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LOOK_AGAIN_SECONDS", 0.001)
    on.executions._holds_queue = False
    await on.accept(on.request())
    watching = Watching(on)
    await watching.one()

    sign = await watching.one()

    assert (sign.status, sign.terminal, sign.HasField("execution")) == (Execution.PENDING, False, False)


async def test_two_namespaces_do_not_see_each_others_events(on: Site) -> None:
    gate = Gate()
    on.at.caller.script = {"a": [gate]}
    await on.accept(on.request(), namespace="mine")
    await eventually(lambda: on.at.caller.running == {"a"})
    watching = Watching(on, namespace="mine")
    await watching.one()

    await on.accept(on.request(step("x"), step("y", "filter", "x")), namespace="theirs")
    await on.ended(namespace="theirs")
    gate.open()

    assert said((await watching.rest())[1:]) == [("a", "COMPLETED"), ("", "COMPLETED")]


async def test_a_watcher_that_goes_away_leaves_nothing_behind(on: Site) -> None:
    on.at.caller.script = {"a": [gate := Gate()]}
    await on.accept(on.request())
    messages = on.watcher.watch("default", "e", 0)
    await anext(messages)

    await messages.aclose()  # type: ignore[attr-defined]

    assert dict(on.events._subscriptions) == {}
    gate.open()
