"""Watching an execution through the gateway: as lines of JSON, as server-sent events, and by gRPC."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import grpc
import httpx
import pytest
from google.protobuf.json_format import MessageToJson

from imageflow_common.errors import NotFound

if TYPE_CHECKING:
    from tests.gateway.conftest import Backend, Gateway

pytestmark = pytest.mark.asyncio(loop_scope="session")

WATCH = "/v1/executions/e-1:watch"
METHOD = "ExecutionService/WatchExecution"
STREAM = "ExecutionStreamService/StreamExecution"
NDJSON = {"accept-encoding": "gzip"}
SSE = {"accept": "text/event-stream", "accept-encoding": "gzip"}
EITHER = pytest.mark.parametrize(
    ("headers", "content_type"), [(NDJSON, "application/x-ndjson"), (SSE, "text/event-stream")], ids=["ndjson", "sse"]
)


class Watched:
    """An execution that is watched: tells an event at once, the rest when it may."""

    def __init__(self, backend: Backend) -> None:
        self.go_on = asyncio.Event()
        self.left = asyncio.Event()
        self._event: Any = backend.message("ExecutionEvent")
        self._text: Any = backend.message("google.api.HttpBody")
        backend.answers[METHOD] = self._watch
        backend.answers[STREAM] = self._stream

    async def _watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        try:
            yield self._event(number=1, execution_id=request.execution_id, status="RUNNING")
            await self.go_on.wait()
            yield self._event(number=2, execution_id=request.execution_id, status="COMPLETED", terminal=True)
        finally:
            self.left.set()

    async def _stream(self, request: Any, context: Any) -> AsyncIterator[Any]:
        async with aclosing(self._watch(request, context)) as events:
            async for event in events:
                data = MessageToJson(event, indent=None, always_print_fields_with_no_presence=True)
                text = f"id: {event.number}\ndata: {data}\n\n".encode()
                yield self._text(content_type="text/event-stream", data=text)


@pytest.fixture
def watched(backend: Backend) -> Watched:
    return Watched(backend)


def event_of(text: str) -> dict[str, Any]:
    event: dict[str, Any] = json.loads(text.removeprefix("data: "))
    return event


@EITHER
async def test_each_event_arrives_when_it_is_told_and_is_not_compressed(
    client: httpx.AsyncClient, watched: Watched, headers: dict[str, str], content_type: str
) -> None:
    async with client.stream("GET", WATCH, headers=headers) as response:
        assert (response.status_code, response.headers["content-type"]) == (200, content_type)
        assert "content-encoding" not in response.headers
        lines = (line async for line in response.aiter_lines() if line and not line.startswith("id: "))
        assert event_of(await anext(lines))["number"] == 1
        watched.go_on.set()
        assert [(event["number"], event["terminal"]) for event in [event_of(line) async for line in lines]] == [
            (2, True)
        ]


async def test_a_line_is_an_event_and_nothing_else(client: httpx.AsyncClient, watched: Watched) -> None:
    watched.go_on.set()
    response = await client.get(WATCH)
    assert [json.loads(line)["number"] for line in response.text.splitlines()] == [1, 2]


async def test_server_sent_events_are_passed_on_as_the_service_writes_them(
    client: httpx.AsyncClient, watched: Watched
) -> None:
    watched.go_on.set()
    response = await client.get(WATCH, headers={"accept": "text/html, text/event-stream;q=0.9"})
    first, second, rest = response.text.split("\n\n")
    assert first.startswith("id: 1\ndata: {")
    assert second.startswith("id: 2\ndata: {")
    assert (event_of(first.partition("\n")[2])["number"], rest) == (1, "")


async def test_the_number_that_a_browser_has_seen_last_reaches_the_service(
    client: httpx.AsyncClient, backend: Backend, watched: Watched
) -> None:
    watched.go_on.set()
    await client.get(WATCH, headers={**SSE, "last-event-id": "7"})
    assert backend.last.metadata["last-event-id"] == "7"


@EITHER
async def test_the_last_event_seen_reaches_the_service(
    client: httpx.AsyncClient, backend: Backend, watched: Watched, headers: dict[str, str], content_type: str
) -> None:
    watched.go_on.set()
    await client.get(f"{WATCH}?afterEvent=7", headers=headers)
    request = backend.last.requests[0]
    assert (request.execution_id, request.after_event) == ("e-1", 7)


@EITHER
async def test_what_is_asked_wrongly_is_a_json_error(
    client: httpx.AsyncClient, watched: Watched, headers: dict[str, str], content_type: str
) -> None:
    for query in ("bogus=1", "afterEvent=-1"):
        response = await client.get(f"{WATCH}?{query}", headers=headers)
        assert (response.status_code, response.json()["code"]) == (400, 3)


@EITHER
async def test_an_error_before_the_first_event_has_its_status(
    client: httpx.AsyncClient, backend: Backend, headers: dict[str, str], content_type: str
) -> None:
    async def missing(request: Any, context: Any) -> AsyncIterator[Any]:
        raise NotFound("there is no such execution", reason="EXECUTION_NOT_FOUND")
        yield

    backend.answers[METHOD] = backend.answers[STREAM] = missing
    response = await client.get(WATCH, headers=headers)
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/json"
    assert response.json()["details"][0]["reason"] == "EXECUTION_NOT_FOUND"


@EITHER
async def test_who_goes_away_ends_the_call(
    client: httpx.AsyncClient, watched: Watched, headers: dict[str, str], content_type: str
) -> None:
    async with client.stream("GET", WATCH, headers=headers) as response:
        await anext(response.aiter_lines())
    await asyncio.wait_for(watched.left.wait(), 20)
    assert not watched.go_on.is_set()


async def test_a_watch_may_take_an_hour(client: httpx.AsyncClient, backend: Backend, watched: Watched) -> None:
    watched.go_on.set()
    for headers in (NDJSON, SSE):
        await client.get(WATCH, headers=headers)
        assert backend.last.seconds_left is not None
        assert 3_500 < backend.last.seconds_left <= 3_600


@EITHER
async def test_an_event_with_a_large_execution_passes(
    client: httpx.AsyncClient, backend: Backend, headers: dict[str, str], content_type: str
) -> None:
    async def large(request: Any, context: Any) -> AsyncIterator[Any]:
        yield backend.message("ExecutionEvent")(execution={"execution_id": "e" * 4_000_000})

    async def large_text(request: Any, context: Any) -> AsyncIterator[Any]:
        data = json.dumps({"execution": {"executionId": "e" * 4_000_000}})
        text = f"data: {data}\n\n".encode()
        yield backend.message("google.api.HttpBody")(content_type="text/event-stream", data=text)

    backend.answers[METHOD], backend.answers[STREAM] = large, large_text
    response = await client.get(WATCH, headers=headers)
    assert len(event_of(response.text)["execution"]["executionId"]) == 4_000_000


async def test_a_watch_by_grpc_is_a_stream(gateway: Gateway, backend: Backend, watched: Watched) -> None:
    request: Any = backend.message("WatchExecutionRequest")
    event: Any = backend.message("ExecutionEvent")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}") as channel:
        call: Any = channel.unary_stream(f"/imageflow.v1.{METHOD}", response_deserializer=event.FromString)
        running = call(request(execution_id="e-1").SerializeToString(), timeout=20)
        assert (await running.read()).number == 1
        watched.go_on.set()
        assert (await running.read()).terminal


@pytest.mark.parametrize("verb", ["cancel", "rerun"])
async def test_a_body_may_be_left_out(client: httpx.AsyncClient, backend: Backend, verb: str) -> None:
    for content in (b"", b"{}"):
        response = await client.post(f"/v1/executions/e-1:{verb}", content=content)
        assert response.status_code == 200
        assert (backend.last.requests[0].execution_id, backend.last.requests[0].body.data) == ("e-1", content)
