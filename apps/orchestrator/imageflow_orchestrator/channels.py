"""The channels to components: one for each address, over every replica that its name stands for at the moment.

gRPC looks a name up again only when a connection breaks, and then at most twice a minute: a replica that has come since
would get no calls, and when the old one goes nobody would know the new one. So names are looked up here, every two
seconds, and a name that stands for others than before gets a new channel. Connections to replicas that stay are kept,
and calls under way end where they began.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from imageflow_common.logs import EventLog

log = EventLog(__name__)

M = TypeVar("M", bound=Message)

_LOOK_AGAIN_SECONDS = 2.0
_SCHEMES = ("dns:///", "dns:")

Places = frozenset[tuple[str, int]]
"""IP addresses with their ports."""
Resolve = Callable[[str, int], Awaitable[Places]]


async def resolve(host: str, port: int) -> Places:
    """What a name stands for, in one family: a replica that has an address of each would be counted twice. Nothing
    where it cannot be looked up."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, ValueError, OverflowError):  # also a text that can be no name
        return frozenset()
    families = {family for family, *_ in found}
    chosen = socket.AF_INET if socket.AF_INET in families else socket.AF_INET6
    return frozenset((str(place[0]), port) for family, *_, place in found if family == chosen)


@dataclass(slots=True)
class _Held:
    channel: grpc.aio.Channel
    places: Places = frozenset()
    methods: dict[str, Any] = field(default_factory=dict)
    calls: int = 0
    replaced: bool = False


class Channels:
    """Used from one event loop."""

    def __init__(
        self,
        options: Sequence[tuple[str, Any]],
        *,
        resolve: Resolve = resolve,
        look_again_seconds: float = _LOOK_AGAIN_SECONDS,
    ) -> None:
        self._options = options
        self._resolve = resolve
        self._look_again_seconds = look_again_seconds
        self._held: dict[str, _Held] = {}
        self._closing: set[asyncio.Task[None]] = set()

    async def call(
        self,
        address: str,
        method: str,
        request: Message,
        response: type[M],
        *,
        timeout: float,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> M | None:
        """Calls a unary method of whoever is at the address, such as `dns:///resize:9090`. None where what came is not
        the message. Raises AioRpcError."""
        held = self._held.get(address)
        if held is None:
            held = self._held[address] = _Held(self._open(address))
        found = held.methods.get(method)
        if found is None:
            found = held.methods[method] = held.channel.unary_unary(
                method, type(request).SerializeToString, response.FromString
            )
        held.calls += 1
        try:
            answer: M | None = await found(request, timeout=timeout, metadata=metadata)
            return answer
        finally:
            held.calls -= 1
            self._close_when_idle(held)

    async def watch(self) -> None:
        """Looks every name up, again and again."""
        while True:
            await asyncio.sleep(self._look_again_seconds)
            await asyncio.gather(*map(self._look_up, list(self._held)))

    async def close(self) -> None:
        await asyncio.gather(*self._closing)
        for held in self._held.values():
            await held.channel.close()

    async def _look_up(self, address: str) -> None:
        named = _name_of(address)
        places = await self._resolve(*named) if named else frozenset()
        held = self._held[address]
        if not places or places == held.places:
            return  # a name that cannot be looked up at the moment stands for what it stood for
        self._held[address] = _Held(self._open(_target_of(places)), places)
        log.debug("component.replicas", address=address, count=len(places))
        held.replaced = True
        self._close_when_idle(held)

    def _close_when_idle(self, held: _Held) -> None:
        """grpc.aio's own way to wait for calls misses some that have just begun."""
        if held.replaced and not held.calls:
            closing = asyncio.create_task(held.channel.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _open(self, target: str) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(target, list(self._options))


def _name_of(address: str) -> tuple[str, int] | None:
    """Host and port, where the host is a name that may stand for others later."""
    scheme = next((each for each in _SCHEMES if address.startswith(each)), "")
    host, _, port = address.removeprefix(scheme).rpartition(":")
    if not host or not port.isdecimal() or (":" in host and not host.startswith("[")):
        return None
    try:
        ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host, int(port)
    return None


def _target_of(places: Places) -> str:
    ordered = sorted(places)
    if ":" in ordered[0][0]:
        return "ipv6:" + ",".join(f"[{host}]:{port}" for host, port in ordered)
    return "ipv4:" + ",".join(f"{host}:{port}" for host, port in ordered)
