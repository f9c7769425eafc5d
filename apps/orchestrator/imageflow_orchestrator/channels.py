"""The channels to components: one for each address, over every replica that its name stands for at the moment.

gRPC looks a name up again only when a connection breaks, and then at most twice a minute: a replica that has come since
would get no calls, and when the old one goes nobody would know the new one. So names are looked up here, every two
seconds, and a name that stands for others than before gets a new channel. Connections to replicas that stay are kept,
and calls under way end where they began.

A replica that is to end is named for a while longer, and what reaches gRPC's server while it shuts down ends as
CANCELLED. So a channel follows health: no call goes to a replica whose `liveness` is NOT_SERVING, as it is from when it
was told to end. Who serves no such name is called all the same, and so is who is alone in ending.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from imageflow_common.logs import EventLog
from imageflow_common.rpc import LIVENESS

log = EventLog(__name__)

M = TypeVar("M", bound=Message)

_LOOK_AGAIN_SECONDS = 2.0
_HEALTH_SECONDS = 1.0
_CHECK = "/grpc.health.v1.Health/Check"
_FOLLOWING = ("grpc.service_config", json.dumps({"healthCheckConfig": {"serviceName": LIVENESS}}))
_SAYS_NOTHING = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED)
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
    follows: bool = False
    """Whether it follows health: one that does calls nobody where no replica serves `liveness`."""
    says_nothing: bool = False
    """Whether who is there was asked for `liveness`, and serves no such name."""
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
        elif held.follows and held.channel.get_state() is grpc.ChannelConnectivity.TRANSIENT_FAILURE:
            held = self._replace(address, held.places, follows=False)  # who is ending is better than nobody
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
        """Looks every name up, and whose health can be followed, again and again."""
        while True:
            await asyncio.sleep(self._look_again_seconds)
            await asyncio.gather(*map(self._look_at, list(self._held)))

    async def close(self) -> None:
        await asyncio.gather(*self._closing)
        for held in self._held.values():
            await held.channel.close()

    async def _look_at(self, address: str) -> None:
        held = self._held[address]
        places = await self._look_up(address) or held.places  # what cannot be looked up stands for what it stood for
        if places != held.places:
            log.debug("component.replicas", address=address, count=len(places))
            self._replace(address, places, follows=held.follows)
        elif (follows := await self._can_follow(held)) != held.follows:
            log.debug("component.health", address=address, followed=follows)
            self._replace(address, places, follows=follows)

    async def _look_up(self, address: str) -> Places:
        named = _name_of(address)
        return await self._resolve(*named) if named else frozenset()

    async def _can_follow(self, held: _Held) -> bool:
        """Whether somebody serves `liveness`. Asked until it is known."""
        if held.follows or held.says_nothing:
            return held.follows
        check = held.channel.unary_unary(_CHECK, HealthCheckRequest.SerializeToString, HealthCheckResponse.FromString)
        try:
            answer = await check(HealthCheckRequest(service=LIVENESS), timeout=_HEALTH_SECONDS)
        except grpc.aio.AioRpcError as exc:
            held.says_nothing = exc.code() in _SAYS_NOTHING
            return False
        return answer is not None and answer.status == HealthCheckResponse.SERVING

    def _replace(self, address: str, places: Places, *, follows: bool) -> _Held:
        before = self._held[address]
        target = _target_of(places) if places else address
        held = self._held[address] = _Held(self._open(target, follows=follows), places, follows)
        before.replaced = True
        self._close_when_idle(before)
        return held

    def _close_when_idle(self, held: _Held) -> None:
        """grpc.aio's own way to wait for calls misses some that have just begun."""
        if held.replaced and not held.calls:
            closing = asyncio.create_task(held.channel.close())
            self._closing.add(closing)
            closing.add_done_callback(self._closing.discard)

    def _open(self, target: str, *, follows: bool = False) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(target, [*self._options, _FOLLOWING] if follows else list(self._options))


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
