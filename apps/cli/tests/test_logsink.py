"""How lines are passed on."""

from __future__ import annotations

import io
import json
import re
from typing import NoReturn

from imageflow_cli.logsink import LogSink


async def test_text_lines_begin_with_the_name() -> None:
    stream = io.StringIO()
    sink = LogSink(stream, "text")
    await sink.pass_on("resize", "hello")
    sink.say("process.died", "resize died", process="resize")
    sink.close()
    assert stream.getvalue().splitlines() == ["resize       | hello", "imageflow    | resize died"]


async def test_the_gateways_requests_read_like_the_events_of_services() -> None:
    stream = io.StringIO()
    sink = LogSink(stream, "text")
    request = {
        "timestamp": "2026-01-02T03:04:05.678Z",
        "message": "gateway.request",
        "level": "INFO",
        "method": "GET",
        "path": "/v1/images",
    }
    await sink.pass_on(
        "gateway", json.dumps({**request, "status": 200, "flags": None, "bytes_sent": 5, "user_agent": "a\x1b[0m"})
    )
    others = ["[2026-01-02][warning] says Envoy", '{"message": "x"}', "{no JSON", '{"timestamp": 1, "message": 2}']
    for other in others:
        await sink.pass_on("gateway", other)
    sink.close()
    first, *rest = stream.getvalue().splitlines()
    assert re.fullmatch(
        r"gateway +\| \d\d:\d\d:05 INFO    gateway      gateway\.request "
        r"method=GET path=/v1/images status=200 bytes_sent=5 user_agent=a\\x1b\[0m",
        first,
    )
    assert rest == [f"gateway      | {other}" for other in others]


async def test_json_lines_are_json_whatever_a_child_writes() -> None:
    stream = io.StringIO()
    sink = LogSink(stream, "json")
    await sink.pass_on("resize", '{"message": "theirs"}')
    await sink.pass_on("resize", "Segmentation fault")
    sink.say("process.died", "resize died", process="resize")
    sink.close()
    theirs, wrapped, ours = map(json.loads, stream.getvalue().splitlines())
    assert theirs == {"message": "theirs"}
    assert (wrapped["logger"], wrapped["message"]) == ("resize", "Segmentation fault")
    assert (ours["logger"], ours["message"], ours["process"]) == ("imageflow", "process.died", "resize")


async def test_a_reader_that_went_away_does_not_stop_anything() -> None:
    class Closed(io.StringIO):
        def write(self, _: str) -> NoReturn:
            raise BrokenPipeError

    sink = LogSink(Closed(), "text")
    for _ in range(2_000):
        await sink.pass_on("resize", "hello")
    sink.close()
