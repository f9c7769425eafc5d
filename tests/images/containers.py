"""The system from its images, in containers as the manifests would have them: not root, read-only, bounded."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx

from tests.e2e.callers import Callers, connect
from tools import images

USER = 10001
MEMORY = {"orchestrator": "1g", "resize": "768m", "filter": "768m", "detect": "1536m", "gateway": "640m"}
START_SECONDS = 60.0
_CONFINED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--tmpfs=/tmp", "--pull=never")
ENVIRONMENT = {
    **os.environ,
    "CONTAINERS_CONF": str(Path(__file__).with_name("containers.conf")),
    "STORAGE_DRIVER": os.environ.get("STORAGE_DRIVER", "overlay"),
}


def podman(*arguments: str, check: bool = True, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        ["podman", *arguments],
        env=ENVIRONMENT,
        cwd=tempfile.gettempdir(),  # where it notes that memory ran out
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert not check or done.returncode == 0, f"podman {' '.join(arguments)}: {done.stderr}"
    return done


def image_of(name: str) -> str:
    return f"{images.PREFIX}/{name}:{images.version()}"


def state_of(container: str) -> dict[str, Any]:
    """`Running`, `ExitCode`, `OOMKilled` and the like."""
    state: dict[str, Any] = json.loads(podman("inspect", container).stdout)[0]["State"]
    return state


def address_of(container: str) -> str:
    """On its network, which this machine is on too."""
    [network] = json.loads(podman("inspect", container).stdout)[0]["NetworkSettings"]["Networks"].values()
    return str(network["IPAddress"])


def eventually(condition: Callable[[], bool], said: Callable[[], str], *, within: float = START_SECONDS) -> None:
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end, said()
        time.sleep(0.2)


@dataclass(slots=True)
class Network:
    """Containers that know each other by name. `folder` holds what outlives them."""

    name: str
    folder: Path
    memory: Path
    containers: list[str] = field(default_factory=list)

    def run(
        self,
        service: str,
        *,
        replica: int = 1,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        shared: bool = True,
    ) -> str:
        """Starts one, which has the volume in memory if it is `shared`; answers its container's name."""
        name = f"{self.name}-{service}-{replica}"
        variables = ({"IMAGEFLOW_SHARED_DIRECTORY": "/shared"} if shared else {}) | dict(environment or {})
        memory = [f"--volume={self.memory}:/shared"] if shared else []
        self.containers.append(name)
        podman(
            *("run", "--detach", f"--name={name}", f"--network={self.name}", f"--network-alias={service}"),
            *(*_CONFINED, f"--memory={MEMORY[service]}", *memory),
            *(f"--env={key}={value}" for key, value in variables.items()),
            *(*options, image_of(service)),
        )
        return name

    def said(self) -> str:
        """The last lines of all."""
        return "\n".join(f"{name}: {podman('logs', '--tail=12', name, check=False)}" for name in self.containers)

    def serving(self, container: str) -> bool:
        return podman("exec", container, "imageflow-health", check=False).returncode == 0


@dataclass(frozen=True, slots=True)
class System:
    """All of it. `resize` is the container of the first of two."""

    network: Network
    callers: Callers
    resize: str


@contextmanager
def network(folder: Path) -> Iterator[Network]:
    name = f"imageflow-test-{secrets.token_hex(4)}"
    memory = Path("/dev/shm") / name
    memory.mkdir()
    (folder / "store").mkdir()
    for place in (memory, folder / "store"):
        os.chown(place, USER, USER)
    podman("network", "create", name)
    made = Network(name, folder, memory)
    try:
        yield made
    finally:
        for container in made.containers:
            podman("rm", "--force", "--time=2", container, check=False)
        podman("network", "rm", "--force", name, check=False)
        shutil.rmtree(memory)


@contextmanager
def system(folder: Path) -> Iterator[System]:
    """Two of resize, one of all else; only the gateway is reached from outside."""
    with network(folder) as net:
        detect = net.run("detect")
        names = [detect, net.run("filter")]
        resize, second = (net.run("resize", replica=replica) for replica in (1, 2))
        store = [f"--volume={folder / 'store'}:/data"]
        orchestrator = net.run("orchestrator", options=store, environment={"IMAGEFLOW_STORE_URL": "file:///data"})
        for name in (*names, resize, second, orchestrator):
            eventually(partial(net.serving, name), net.said)
        gateway = net.run("gateway", options=["--publish=127.0.0.1::8080"])
        port = int(podman("port", gateway, "8080").stdout.split(":")[-1])
        for callers in connect(f"http://127.0.0.1:{port}", f"127.0.0.1:{port}"):
            eventually(partial(ready, callers), net.said)
            yield System(net, callers, resize)


def ready(callers: Callers) -> bool:
    """Whether the system behind a gateway can do all that it should."""
    try:
        return callers.http.get("/readyz").status_code == 200
    except httpx.TransportError:  # nobody listens yet
        return False
