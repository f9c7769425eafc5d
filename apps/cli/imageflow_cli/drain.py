"""Lets a gateway finish what is in flight before it ends: Envoy drops that on SIGTERM."""

from __future__ import annotations

import asyncio
from pathlib import Path

from .web import unix_request

_ACTIVE_REQUESTS = "http.gateway.downstream_rq_active"
_POLL_SECONDS = 0.05


class NotDrained(Exception):
    """Requests may be lost. The text says why."""


async def drain_gateway(admin_socket: Path, *, within_seconds: float) -> None:
    """Tells balancers and clients to go elsewhere, then waits until no request is in flight. A gateway that is gone
    has none. Raises NotDrained."""
    try:
        async with asyncio.timeout(within_seconds):
            await _admin(admin_socket, "POST", "/healthcheck/fail")
            await _admin(admin_socket, "POST", "/drain_listeners?graceful&skip_exit")
            while await _active_requests(admin_socket):  # noqa: ASYNC110  # another process's state can only be polled
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError as exc:
        raise NotDrained(f"requests were still in flight after {within_seconds:.3g} s") from exc
    except _Gone:
        return


class _Gone(Exception):
    """Nobody answers on the admin socket."""


async def _active_requests(admin_socket: Path) -> int:
    text = await _admin(admin_socket, "GET", f"/stats?filter={_ACTIVE_REQUESTS}")
    for line in text.splitlines():
        name, _, value = line.partition(": ")
        if name == _ACTIVE_REQUESTS:
            return int(value)
    raise NotDrained(f"the gateway does not know {_ACTIVE_REQUESTS}")


async def _admin(admin_socket: Path, method: str, target: str) -> str:
    answer = await unix_request(admin_socket, method, target)
    if not answer.status:
        raise _Gone
    if answer.status != 200:
        raise NotDrained(f"the gateway answered {answer.status} to {target}")
    return answer.body.decode("utf-8", "replace")
