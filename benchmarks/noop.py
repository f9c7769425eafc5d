"""A component that does nothing, and a bare gRPC service that echoes bytes: what engine.py measures.

python noop.py            # the component, on IMAGEFLOW_PORT
python noop.py echo       # the echo, on a free port

Both write a line of JSON with the port when they are ready: the component in its log, the echo on its own.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import grpc

from imageflow.v1.filter_pb2 import FilterMetadata, FilterParameters
from imageflow_common.component import Result, component
from imageflow_common.pixels import Pixels
from imageflow_common.rpc import run
from imageflow_common.serve import serve


@component(name="noop", service="imageflow.v1.FilterService")
def noop(image: Pixels, parameters: FilterParameters) -> Result:
    """Answers the image that it was given, as one that it made."""
    return Result(image, metadata=FilterMetadata())


async def echo() -> None:
    """Serves `/benchmark.Echo/Echo` until it is killed."""

    async def answer(request: bytes, context: Any) -> bytes:
        return request

    server = grpc.aio.server()
    methods: dict[str, Any] = {"Echo": grpc.unary_unary_rpc_method_handler(answer)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("benchmark.Echo", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"port": port}), file=sys.stderr, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    if sys.argv[1:] == ["echo"]:
        run(echo)
    else:
        serve(noop)
