"""How lines are passed on."""

from __future__ import annotations

import io
import json
from typing import NoReturn

from imageflow_cli.logsink import LogSink


async def test_text_lines_begin_with_the_name() -> None:
    stream = io.StringIO()
    sink = LogSink(stream, "text")
    await sink.pass_on("resize", "hello")
    sink.say("process.died", "resize died", process="resize")
    sink.close()
    assert stream.getvalue().splitlines() == ["resize       | hello", "imageflow    | resize died"]


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
