"""The front door: ExecutionStreamService. A watch as server-sent events, which browsers resume by themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator

from google.api.httpbody_pb2 import HttpBody
from google.protobuf.json_format import MessageToJson

from imageflow.v1.execution_service_pb2 import ExecutionEvent
from imageflow.v1.execution_stream_pb2 import StreamExecutionRequest
from imageflow_common.rpc import Context, Method

from .identity import check_id, namespace_of
from .watch import Watcher

_LAST_EVENT_ID = "last-event-id"
_LARGEST = 2**32 - 1


class ExecutionStreamApi:
    """ExecutionStreamService."""

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def methods(self) -> dict[str, Method]:
        return {"StreamExecution": self.stream}

    async def stream(self, request: StreamExecutionRequest, context: Context) -> AsyncIterator[HttpBody]:
        execution_id = check_id("executionId", request.execution_id)
        after = _last_event(context) or request.after_event
        async for event in self._watcher.watch(namespace_of(context), execution_id, after):
            yield HttpBody(content_type="text/event-stream", data=_text(event, after))


def _text(event: ExecutionEvent, after: int) -> bytes:
    """The first event has no number of its own. Whoever has seen only that goes on behind what he asked for, if he did,
    and else behind what it says of the execution."""
    number = event.number or after or event.execution.last_event_number
    data = MessageToJson(event, indent=None, always_print_fields_with_no_presence=True)
    return f"id: {number}\ndata: {data}\n\n".encode()


def _last_event(context: Context) -> int:
    """The number that a client says it has seen last; 0 where it says none of ours."""
    said = dict(context.invocation_metadata() or ()).get(_LAST_EVENT_ID, "")
    number = int(said) if isinstance(said, str) and said.isascii() and said.isdecimal() else 0
    return number if number <= _LARGEST else 0
