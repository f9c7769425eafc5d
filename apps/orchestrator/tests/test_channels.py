"""Replicas that come and go behind one name, with real servers."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse

from imageflow_common.rpc import LIVENESS, channel_options
from imageflow_orchestrator.channels import Channels, Places, resolve

METHOD = "/test.v1.Replica/Ask"
SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


@dataclass
class Named:
    """Replicas on one port of several addresses of this machine, and what their name stands for."""

    port: int
    places: Places = frozenset()
    answered: Counter[str] = field(default_factory=Counter)
    servers: dict[str, grpc.aio.Server] = field(default_factory=dict)
    health: dict[str, health.aio.HealthServicer] = field(default_factory=dict)
    begun: asyncio.Event = field(default_factory=asyncio.Event)
    held: str = ""
    """Whose calls are answered when they are `released`."""
    released: asyncio.Event = field(default_factory=asyncio.Event)

    async def start(self, host: str, *serves: str) -> None:
        """A replica whose health serves these names; without any it has no such service."""

        async def ask(request: HealthCheckRequest, context: Any) -> HealthCheckResponse:
            self.answered[host] += 1
            self.begun.set()
            if host == self.held:
                await self.released.wait()
            return HealthCheckResponse(status=SERVING)

        handler = grpc.unary_unary_rpc_method_handler(
            ask, HealthCheckRequest.FromString, HealthCheckResponse.SerializeToString
        )
        server = self.servers[host] = grpc.aio.server()
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.v1.Replica", {"Ask": handler})])
        if serves:
            told = self.health[host] = health.aio.HealthServicer()
            health_pb2_grpc.add_HealthServicer_to_server(told, server)
            for name in serves:
                await told.set(name, SERVING)
        server.add_insecure_port(f"{host}:{self.port}")
        await server.start()

    def name(self, *hosts: str) -> None:
        self.places = frozenset((host, self.port) for host in hosts)

    async def resolve(self, host: str, port: int) -> Places:
        assert (host, port) == ("replicas.test", self.port)
        return self.places


@pytest.fixture
async def named() -> AsyncIterator[Named]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    made = Named(port)
    await made.start("127.0.0.1")
    made.name("127.0.0.1")
    yield made
    for server in made.servers.values():
        await server.stop(None)


@pytest.fixture
async def channels(named: Named) -> AsyncIterator[Channels]:
    """Which know the name: before it was looked up here gRPC looks it up, and there is no such name."""
    made = Channels(channel_options(1 << 20), resolve=named.resolve, look_again_seconds=0.01)
    watching = asyncio.create_task(made.watch())
    async with asyncio.timeout(30):
        while not named.answered:
            with suppress(grpc.aio.AioRpcError):
                await ask(made, named)
    yield made
    watching.cancel()
    with suppress(asyncio.CancelledError):
        await watching
    await made.close()


async def ask(channels: Channels, named: Named) -> None:
    await ask_at(channels, f"dns:///replicas.test:{named.port}")


async def ask_at(channels: Channels, address: str) -> None:
    answer = await channels.call(address, METHOD, HealthCheckRequest(), HealthCheckResponse, timeout=10)
    assert answer == HealthCheckResponse(status=SERVING)


async def until_none_fails(channels: Channels, named: Named) -> None:
    """A hundred in a row, after those that fail until the channel knows how things stand."""
    answered = 0
    async with asyncio.timeout(30):
        while answered < 100:
            try:
                await ask(channels, named)
                answered += 1
            except grpc.aio.AioRpcError:
                answered = 0


async def until_answered(channels: Channels, named: Named, *hosts: str) -> None:
    """By all of them and by nobody else; every call on the way is answered."""
    async with asyncio.timeout(30):
        while True:
            named.answered.clear()
            for _ in range(4):
                await ask(channels, named)
            if set(named.answered) == set(hosts):
                return


async def test_a_replica_that_comes_gets_calls_and_one_that_has_gone_none(channels: Channels, named: Named) -> None:
    await until_answered(channels, named, "127.0.0.1")

    await named.start("127.0.0.2")
    named.name("127.0.0.1", "127.0.0.2")
    await until_answered(channels, named, "127.0.0.1", "127.0.0.2")

    named.name("127.0.0.2")
    await named.servers["127.0.0.1"].stop(5)
    named.answered.clear()
    for _ in range(50):
        await ask(channels, named)
    assert set(named.answered) == {"127.0.0.2"}


async def test_a_call_under_way_ends_where_it_began(channels: Channels, named: Named) -> None:
    named.held = "127.0.0.1"
    named.begun.clear()
    under_way = [asyncio.create_task(ask(channels, named))]
    await asyncio.wait_for(named.begun.wait(), 10)

    await named.start("127.0.0.2")
    named.name("127.0.0.2")
    async with asyncio.timeout(30):
        while not named.answered["127.0.0.2"]:
            under_way.append(asyncio.create_task(ask(channels, named)))
            await asyncio.sleep(0.01)
    assert not under_way[0].done()
    named.released.set()
    await asyncio.gather(*under_way)


async def test_no_call_is_lost_while_replicas_change_all_the_time(channels: Channels, named: Named) -> None:
    await named.start("127.0.0.2")
    done = asyncio.Event()

    async def load() -> int:
        calls = 0
        while not done.is_set():
            await ask(channels, named)
            calls += 1
        return calls

    loaders = [asyncio.create_task(load()) for _ in range(8)]
    for number in range(100):
        named.name(("127.0.0.1", "127.0.0.2")[number % 2])
        await asyncio.sleep(0.015)
    done.set()
    assert sum(await asyncio.gather(*loaders)) > 100
    assert set(named.answered) == {"127.0.0.1", "127.0.0.2"}


async def test_a_name_that_cannot_be_looked_up_stands_for_what_it_stood_for(channels: Channels, named: Named) -> None:
    await until_answered(channels, named, "127.0.0.1")
    named.name()
    for _ in range(20):
        await ask(channels, named)
        await asyncio.sleep(0.005)
    assert set(named.answered) == {"127.0.0.1"}


FOLLOWED = ("127.0.0.3", "127.0.0.4")


@pytest.fixture
async def followed(channels: Channels, named: Named) -> Named:
    """Two replicas by one name, whose health the channels follow: who serves no more gets no calls."""
    for host in FOLLOWED:
        await named.start(host, "", LIVENESS)
    named.name(*FOLLOWED)
    await until_answered(channels, named, *FOLLOWED)
    await named.health[FOLLOWED[1]].set(LIVENESS, NOT_SERVING)
    await until_answered(channels, named, FOLLOWED[0])
    await named.health[FOLLOWED[1]].set(LIVENESS, SERVING)
    await until_answered(channels, named, *FOLLOWED)
    return named


async def test_no_call_goes_to_a_replica_that_is_to_end_and_none_is_lost_when_it_ends(
    channels: Channels, followed: Named
) -> None:
    """The name stands for it until it is gone, and longer."""
    stays, ends = FOLLOWED
    done = asyncio.Event()

    async def load() -> None:
        while not done.is_set():
            await ask(channels, followed)

    loaders = [asyncio.create_task(load()) for _ in range(50)]
    await followed.health[ends].enter_graceful_shutdown()
    await until_answered(channels, followed, stays)
    await followed.servers[ends].stop(5)
    await until_answered(channels, followed, stays)
    done.set()
    await asyncio.gather(*loaders)


async def test_a_replica_that_lacks_what_it_needs_gets_calls_and_says_so_itself(
    channels: Channels, followed: Named
) -> None:
    await followed.health[FOLLOWED[1]].set("", NOT_SERVING)
    await until_answered(channels, followed, *FOLLOWED)


async def test_who_is_alone_in_ending_is_called_still(channels: Channels, followed: Named) -> None:
    followed.name(FOLLOWED[1])
    await until_answered(channels, followed, FOLLOWED[1])
    await followed.health[FOLLOWED[1]].enter_graceful_shutdown()
    await until_none_fails(channels, followed)


@pytest.mark.parametrize("serves", [(), ("", "acme.v1.SepiaService")])
async def test_who_serves_no_liveness_is_called_also_where_another_served_it_before(
    channels: Channels, followed: Named, serves: tuple[str, ...]
) -> None:
    for host in FOLLOWED:
        await followed.servers[host].stop(None)
        await followed.start(host, *serves)
    await until_none_fails(channels, followed)
    await until_answered(channels, followed, *FOLLOWED)


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "dns:///127.0.0.1:{}", "ipv4:127.0.0.1:{}", "localhost:{}"])
async def test_every_form_of_an_address_is_reached(named: Named, address: str) -> None:
    channels = Channels(channel_options(1 << 20), look_again_seconds=0.01)
    watching = asyncio.create_task(channels.watch())
    for _ in range(10):
        await ask_at(channels, address.format(named.port))
        await asyncio.sleep(0.01)
    watching.cancel()
    await channels.close()


async def test_names_are_looked_up() -> None:
    assert await resolve("localhost", 1) in (frozenset({("127.0.0.1", 1)}), frozenset({("::1", 1)}))
    for name in ("no-such-name.invalid", "x" * 64, "a..b", "nul\0"):
        assert await resolve(name, 1) == frozenset(), name
    assert await resolve("no-such-name.invalid", 1 << 80) == frozenset()
