"""What a Deployment does to pods, done to containers of the real system under load: updates, scaling, a death."""

from __future__ import annotations

import http.client
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.e2e import pictures

from .containers import Network, eventually, network, podman

pytestmark = pytest.mark.timeout(900)

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "inspect-coins.json"
PROCESS = "/v1/pipelines/inspect-coins:process"
SERVICES = ("resize", "detect", "filter", "orchestrator")
LOADERS = 4
TERMINATION_SECONDS = 40
DRAIN_SECONDS = 5
"""As in k8s/base: IMAGEFLOW_DRAIN_SECONDS, which gives the gateway time to look the names up again."""
MIN_READY_SECONDS = 5.0
"""How long a new pod serves before an old one may go: longer than names are cached, which podman does not."""
SETTLE_SECONDS = 3.0


@dataclass
class Fleet:
    """Containers by service, as many as there are replicas."""

    net: Network
    replicas: dict[str, list[str]] = field(default_factory=dict)
    gateways: list[int] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def add(self, service: str) -> str:
        """One more, which serves when this returns."""
        options = [f"--volume={self.net.folder / 'store'}:/data"] if service == "orchestrator" else []
        environment = {
            "IMAGEFLOW_DRAIN_SECONDS": str(DRAIN_SECONDS),
            **({"IMAGEFLOW_STORE_URL": "file:///data"} if service == "orchestrator" else {}),
        }
        name = self.net.run(service, replica=next(self.numbers), options=options, environment=environment)
        eventually(partial(self.net.serving, name), self.net.said)
        time.sleep(MIN_READY_SECONDS)
        self.replicas.setdefault(service, []).append(name)
        return name

    def end(self, service: str) -> None:
        """The oldest is told to end, and is gone when this returns."""
        podman("stop", f"--time={TERMINATION_SECONDS}", self.replicas[service].pop(0))

    def add_gateway(self) -> str:
        name = self.net.run("gateway", replica=next(self.numbers), options=["--publish=127.0.0.1::8080"])
        port = int(podman("port", name, "8080").stdout.split(":")[-1])

        def ready() -> bool:
            try:
                return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
            except httpx.TransportError:
                return False

        eventually(ready, self.net.said)
        self.gateways.append(port)
        return name


@pytest.fixture(scope="module")
def fleet(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with network(tmp_path_factory.mktemp("rolling")) as net:
        fleet = Fleet(net)
        for service in SERVICES:
            fleet.add(service)
        fleet.add_gateway()
        answer = httpx.post(f"http://127.0.0.1:{fleet.gateways[0]}/v1/pipelines", content=EXAMPLE.read_bytes())
        assert answer.status_code == 200, answer.text
        yield fleet


@contextmanager
def loaded(
    fleet: Fleet, ask: Callable[[http.client.HTTPConnection], str], loaders: int = LOADERS
) -> Iterator[Counter[str]]:
    """While the block runs, requests one after the other in each thread, over connections that are kept for as long as
    the gateway lets them be; a new one goes to the gateway that is there now."""
    done, answers = threading.Event(), Counter[str]()

    def work() -> None:
        connection: http.client.HTTPConnection | None = None
        while not done.is_set():
            if connection is None or connection.sock is None:
                connection = http.client.HTTPConnection("127.0.0.1", fleet.gateways[0], timeout=60)
                connection.connect()
            answers[ask(connection)] += 1

    threads = [threading.Thread(target=work) for _ in range(loaders)]
    for thread in threads:
        thread.start()
    try:
        time.sleep(1)
        yield answers
        time.sleep(SETTLE_SECONDS)
    finally:
        done.set()
        for thread in threads:
            thread.join()


IMAGE = pictures.coins()


def once(connection: http.client.HTTPConnection) -> str:
    try:
        connection.request("POST", PROCESS, IMAGE)
        answer = connection.getresponse()
        said = answer.read()
    except (OSError, http.client.HTTPException) as exc:
        connection.close()
        return type(exc).__name__
    return "200" if answer.status == 200 else f"{answer.status} {said[:200].decode(errors='replace')}"


def twice(connection: http.client.HTTPConnection) -> str:
    """Asks again where that is safe, as it is with `:process`."""
    first = once(connection)
    return first if first == "200" else once(connection)


@pytest.mark.parametrize("service", SERVICES)
def test_a_rolling_update_fails_no_request(fleet: Fleet, service: str) -> None:
    with loaded(fleet, once) as answers:
        fleet.add(service)
        fleet.end(service)

    assert set(answers) == {"200"}, answers
    assert answers.total() > 50


@pytest.mark.parametrize("service", SERVICES)
def test_scaling_up_and_down_fails_no_request(fleet: Fleet, service: str) -> None:
    with loaded(fleet, once) as answers:
        for _ in range(2):
            fleet.add(service)
        for _ in range(2):
            fleet.end(service)

    assert set(answers) == {"200"}, answers


@pytest.mark.parametrize("service", SERVICES)
def test_of_a_replica_that_is_killed_one_request_fails_at_most_and_none_that_is_made_again(
    fleet: Fleet, service: str
) -> None:
    for ask, at_most in ((once, 1), (twice, 0)):
        fleet.add(service)
        with loaded(fleet, ask, loaders=1) as answers:
            podman("kill", fleet.replicas[service].pop(0))
        failed = Counter({said: count for said, count in answers.items() if said != "200"})
        assert failed.total() <= at_most, (failed, fleet.net.said())
        assert answers["200"] > 10


def test_a_rolling_update_of_the_gateway_fails_no_request(fleet: Fleet) -> None:
    """Who keeps connections is told to close them; new ones go elsewhere, as a Service sends them."""
    old = next(name for name in reversed(fleet.net.containers) if "-gateway-" in name)
    with loaded(fleet, once) as answers:
        fleet.add_gateway()
        fleet.gateways.pop(0)
        podman("exec", old, "/usr/local/bin/drain", "8", timeout=30)
        podman("stop", "--time=5", old)

    assert set(answers) == {"200"}, answers
    assert answers.total() > 50
