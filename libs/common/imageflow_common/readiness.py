"""A server that is up, and says by gRPC's health whether what it needs is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from grpc_health.v1 import health_pb2

from .logs import EventLog
from .rpc import RunningServer

log = EventLog(__name__)

Unready = Callable[[], str]
"""Why the server cannot serve, empty when it can. Blocks, for seconds at most; never raises."""

_EVERY_SECONDS = 1.0


async def why_unready(unready: Unready | None) -> str:
    """Asked in a thread; empty where nothing is asked."""
    return "" if unready is None else await asyncio.to_thread(unready)


@asynccontextmanager
async def keeping_health(
    server: RunningServer, service_names: Sequence[str], unready: Unready | None, *, known: str
) -> AsyncIterator[None]:
    """For the block, the health of the server and of its services follows `unready`, which is asked each second and
    has answered `known` last. Each change is logged, with the reason."""
    if unready is None:
        yield
        return
    watching = asyncio.create_task(_watch(server, ("", *service_names), unready, known))
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def _watch(server: RunningServer, names: Sequence[str], unready: Unready, reason: str) -> None:
    if reason:
        log.warning("component.not_serving", reason=reason)
    while True:
        await asyncio.sleep(_EVERY_SECONDS)
        before, reason = reason, await asyncio.to_thread(unready)
        if bool(reason) == bool(before):
            continue
        for name in names:
            await server.health.set(name, _status(reason))
        if reason:
            log.warning("component.not_serving", reason=reason)
        else:
            log.info("component.serving")


def _status(reason: str) -> health_pb2.HealthCheckResponse.ServingStatus:
    response = health_pb2.HealthCheckResponse
    return response.NOT_SERVING if reason else response.SERVING
