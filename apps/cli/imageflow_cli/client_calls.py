"""What every part of the client rests on: one channel, one call, and requests as the gateway takes them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar, cast

from google.api.httpbody_pb2 import HttpBody

from imageflow.v1 import pipeline_pb2 as pipelines

from .rpc import call, open_channel

if TYPE_CHECKING:
    from google.protobuf.message import Message

M = TypeVar("M", bound="Message")

Definition: TypeAlias = "pipelines.Pipeline | Mapping[str, object]"
"""A pipeline's message; or its JSON, in which the server finds every unknown field."""

LONGER_THAN_A_RUN = timedelta(seconds=90)


class Calls:
    """Calls one gateway; `timeout` bounds each call but a watch. Use it in `async with`, in one event loop."""

    def __init__(self, url: str, *, timeout: timedelta = LONGER_THAN_A_RUN) -> None:
        self._channel = open_channel(url)
        self._timeout = timeout.total_seconds()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._channel.close()

    async def _call(self, method: str, request: Message, response: type[M]) -> M:
        return await call(self._channel, method, request, response, self._timeout)


def with_definition(request: Any, pipeline: Definition | None, overrides: Mapping[str, object]) -> Any:
    """The request with its pipeline: as fields, or the whole of it as JSON when the pipeline is JSON."""
    from google.protobuf.json_format import MessageToDict

    if pipeline is None or isinstance(pipeline, pipelines.Pipeline):
        if pipeline is not None:
            request.pipeline.CopyFrom(pipeline)
        return with_overrides(request, overrides)
    document = {**MessageToDict(request), "pipeline": pipeline}
    if overrides:
        document["overrides"] = dict(overrides)
    return type(request)(body=json_body(document))


def with_overrides(request: Any, overrides: Mapping[str, object]) -> Any:
    """The request with `overrides`, JSON values by `stepId.parameter`."""
    from google.protobuf.json_format import ParseDict

    for name, value in overrides.items():
        ParseDict(cast(Any, value), request.overrides[name])
    return request


def json_body(document: Mapping[str, object]) -> HttpBody:
    return HttpBody(content_type="application/json", data=json.dumps(document).encode())


async def pages(page: Callable[[str], Awaitable[Any]]) -> AsyncIterator[Any]:
    """Every page of a list, by the token of the one before."""
    token = ""
    while True:
        response = await page(token)
        yield response
        token = response.next_page_token
        if not token:
            return
