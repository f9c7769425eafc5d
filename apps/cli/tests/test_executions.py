"""`imageflow executions`, against a running system; and watching, against servers that break off."""

from __future__ import annotations

import io
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from imageflow.v1.execution_pb2 import Execution
from imageflow.v1.execution_service_pb2 import BatchInputs, ExecutionEvent, WatchExecutionRequest
from imageflow_cli.client import Client
from imageflow_cli.demo import photograph
from imageflow_cli.exits import Exit
from imageflow_cli.main import cli
from imageflow_cli.output import Output
from imageflow_cli.watching import LiveTable, PlainLines
from imageflow_common.descriptors import own_descriptors
from imageflow_common.errors import NotFound, Unavailable
from imageflow_common.rpc import service_handler, start_server
from imageflow_common.settings import ServerSettings

from .conftest import EXAMPLES, Up

PIPELINE = str(EXAMPLES / "resize-filter.json")
EXAMPLE: dict[str, object] = json.loads((EXAMPLES / "resize-filter.json").read_text())


@pytest.fixture
def call(running: Up) -> Callable[..., Any]:
    """Runs a command that succeeds; answers its JSON."""

    def invoke(*arguments: str) -> Any:
        result = invoke_any(running, *arguments, "--json")
        assert result.exit_code == 0, result.output
        return json.loads(result.stdout)

    return invoke


def invoke_any(running: Up, *arguments: str) -> Result:
    return CliRunner().invoke(cli, [*arguments, "--url", running.url])


@pytest.fixture(scope="module")
def photo(running: Up, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("photo") / "coins.png"
    file.write_bytes(photograph())
    assert invoke_any(running, "images", "put", str(file), "runs/coins.png").exit_code == 0
    return "runs/coins.png"


def test_create_and_watch_show_every_step_and_what_it_came_to(running: Up, photo: str) -> None:
    result = invoke_any(running, "executions", "create", PIPELINE, "--input", photo, "--execution-id", "w1", "--watch")
    assert result.exit_code == Exit.OK, result.output
    assert "execution COMPLETED" in result.stdout
    assert "COMPLETED in" in result.stdout
    again = invoke_any(running, "executions", "watch", "w1", "--json")
    (only,) = [json.loads(line) for line in again.stdout.splitlines()]
    assert (only["terminal"], only["execution"]["executionId"]) == (True, "w1")


def test_a_run_that_fails_is_watched_to_status_1(running: Up) -> None:
    result = invoke_any(running, "executions", "create", PIPELINE, "--input", "runs/none.png", "--watch")
    assert result.exit_code == Exit.FAILED
    assert "OBJECT_NOT_FOUND" in result.stdout


def test_an_ended_execution_runs_again_from_a_step_and_is_deleted(call: Callable[..., Any], photo: str) -> None:
    created = call("executions", "create", PIPELINE, "--input", photo, "--set", "resize.width=64")
    call_until_ended(call, created["executionId"])
    again = call("executions", "rerun", created["executionId"], "--from", "sharpen", "--execution-id", "again")
    assert again["executionId"] == "again"
    ended = call_until_ended(call, "again")
    assert (ended["rerunOf"], ended["reusedSteps"]) == (created["executionId"], ["resize"])
    assert call("executions", "rm", "again", created["executionId"])["deleted"] == ["again", created["executionId"]]
    assert "again" not in [each["executionId"] for each in call("executions", "ls")]


def test_what_has_ended_cannot_be_cancelled(running: Up, call: Callable[..., Any], photo: str) -> None:
    call_until_ended(call, call("executions", "create", PIPELINE, "--input", photo)["executionId"])
    created = call("executions", "create", PIPELINE, "--input", photo, "--execution-id", "over")
    call_until_ended(call, created["executionId"])
    result = invoke_any(running, "executions", "cancel", "over")
    assert result.exit_code == Exit.FAILED
    assert "has ended" in result.stderr


def test_a_batch_is_listed_by_its_parent_and_its_keys_come_from_a_file(
    call: Callable[..., Any], photo: str, tmp_path: Path
) -> None:
    (tmp_path / "keys.txt").write_text(f"{photo}\n\n")
    created = call(
        *("executions", "create", PIPELINE, "--batch", f"@{tmp_path / 'keys.txt'}"),
        *("--output-prefix", "runs/out", "--execution-id", "many"),
    )
    assert created["executionId"] == "many"
    assert call_until_ended(call, "many")["batch"]["completed"] == 1
    assert len(call("executions", "ls", "--parent", "many")) == 1
    prefixed = call("executions", "create", PIPELINE, "--batch-prefix", "runs/coins", "--concurrency", "1")
    assert call_until_ended(call, prefixed["executionId"])["batch"]["total"] == 1


def test_a_list_is_narrowed_by_time_and_state(call: Callable[..., Any], photo: str) -> None:
    moment = datetime.now(UTC)
    call_until_ended(
        call, call("executions", "create", PIPELINE, "--input", photo, "--execution-id", "new")["executionId"]
    )
    after = [each["executionId"] for each in call("executions", "ls", "--after", moment.isoformat())]
    before = [each["executionId"] for each in call("executions", "ls", "--before", moment.isoformat())]
    assert (after, "new" in before) == (["new"], False)
    assert "new" in [each["executionId"] for each in call("executions", "ls", "--status", "completed")]


@pytest.mark.parametrize(
    "arguments",
    [
        ["create", "--input", "x"],
        ["create", "p", "--pipeline-id", "q", "--input", "x"],
        ["create", "p", "--input", "x", "--output-prefix", "y"],
        ["create", "p", "--batch", "@none.txt"],
        ["ls", "--after", "yesterday"],
        ["rm"],
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(arguments: list[str]) -> None:
    assert CliRunner().invoke(cli, ["executions", *arguments]).exit_code == Exit.USAGE


def test_validate_shows_what_a_plan_would_cost(running: Up, call: Callable[..., Any], photo: str) -> None:
    call_until_ended(call, call("executions", "create", PIPELINE, "--input", photo)["executionId"])
    until(lambda: "estimatedMs" in call("validate", PIPELINE))
    text = invoke_any(running, "validate", PIPELINE).stdout
    assert text.splitlines()[0].split()[5:7] == ["time", "memory"]
    assert "along the longest path" in text


async def test_the_client_speaks_of_a_batch_in_messages(running: Up, photo: str) -> None:
    async with Client(running.url) as client:
        pipeline = EXAMPLE
        created = await client.create_execution(
            pipeline, batch=BatchInputs(paths=[photo]), overrides={"resize.width": 9}
        )
        async for event in client.watch_execution(created.execution_id):
            last = event
        assert last.execution.batch.completed == 1
        listed = [each async for each in client.list_executions(parent_execution_id=created.execution_id)]
        assert [each.status for each in listed] == [Execution.COMPLETED]


@asynccontextmanager
async def watched(answer: Callable[[WatchExecutionRequest], AsyncIterator[ExecutionEvent]]) -> AsyncIterator[Client]:
    """A client of a server whose watches answer so."""

    async def nothing(request: object, context: object) -> None: ...

    async def watch(request: WatchExecutionRequest, context: object) -> AsyncIterator[ExecutionEvent]:
        async for event in answer(request):
            yield event

    service = own_descriptors().service("imageflow.v1.ExecutionService")
    methods: dict[str, Callable[..., Any]] = {
        **dict.fromkeys(service.methods_by_name, nothing),
        "WatchExecution": watch,
    }
    server = await start_server(
        ServerSettings(port=0), [service_handler(service, methods)], service_names=[], descriptors=own_descriptors()
    )
    try:
        async with Client(f"127.0.0.1:{server.port}") as client:
            yield client
    finally:
        await server.stop()


async def test_a_broken_watch_goes_on_behind_the_last_event() -> None:
    asked: list[int] = []

    async def answer(request: WatchExecutionRequest) -> AsyncIterator[ExecutionEvent]:
        asked.append(request.after_event)
        yield ExecutionEvent()
        if len(asked) == 3:
            yield ExecutionEvent(number=9, terminal=True)
            return
        yield ExecutionEvent(number=request.after_event + 2)
        if len(asked) == 2:
            raise Unavailable("going away")

    async with watched(answer) as client:
        told = [event.number async for event in client.watch_execution("e", after_event=1)]
    assert (asked, told) == ([1, 3, 5], [0, 3, 0, 5, 0, 9])


async def test_a_watch_that_hears_nothing_is_given_up() -> None:
    async def answer(request: WatchExecutionRequest) -> AsyncIterator[ExecutionEvent]:
        if not request.after_event:
            yield ExecutionEvent(number=1)
        raise Unavailable("going away")

    async with watched(answer) as client:
        with pytest.raises(Unavailable):
            async for _ in client.watch_execution("e", patience=timedelta(seconds=0.3)):
                pass


async def test_what_is_not_there_is_not_asked_for_again() -> None:
    async def answer(request: WatchExecutionRequest) -> AsyncIterator[ExecutionEvent]:
        raise NotFound("no such execution")
        yield

    async with watched(answer) as client:
        with pytest.raises(NotFound):
            await anext(client.watch_execution("e"))


def test_plain_lines_are_changes_and_signs_of_life_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    view = PlainLines(Output())
    moment = ExecutionEvent(number=1, status="RUNNING")
    moment.event_time.FromDatetime(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    view.show(moment)
    view.show(ExecutionEvent(number=1, status="RUNNING"))
    step = ExecutionEvent(number=2, step_id="a", status="FAILED", message="why")
    step.event_time.CopyFrom(moment.event_time)
    view.show(step)
    assert capsys.readouterr().out.splitlines() == [
        "2026-01-02T03:04:05Z  1  execution RUNNING",
        "2026-01-02T03:04:05Z  2  a FAILED why",
    ]


def test_on_a_terminal_each_step_is_a_row_that_changes() -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console(file=io.StringIO(), width=80)
    view = LiveTable(Live(console=console, auto_refresh=False))
    execution = Execution(execution_id="e", status="RUNNING")
    execution.results["a"].status = Execution.COMPLETED
    view.show(ExecutionEvent(execution_id="e", status="RUNNING", execution=execution))
    view.show(ExecutionEvent(number=2, execution_id="e", step_id="b", status="RUNNING"))
    view.show(ExecutionEvent(number=3, execution_id="e", step_id="b", status="FAILED", message="[why]"))
    console.print(view.table())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    rows = [line.split() for line in text.splitlines() if line.split()[:1] in (["a"], ["b"])]
    assert rows == [["a", "COMPLETED"], ["b", "FAILED", "[why]"]]
    assert "e: RUNNING" in text


def call_until_ended(call: Callable[..., Any], execution_id: str) -> Any:
    def ended() -> Any:
        execution = call("executions", "get", execution_id)
        return execution if execution["status"] in ("COMPLETED", "FAILED") and execution["endTime"] else None

    return until(ended)


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + 30
    while not (found := condition()):
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)
    return found
