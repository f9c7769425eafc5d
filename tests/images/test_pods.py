"""The pods of overlays/dev, as podman runs them from the rendered files, and a photograph through all of them."""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import yaml

from tests.e2e import pictures
from tests.e2e.callers import Callers, connect
from tests.kubernetes.cluster import documents

from .containers import eventually, podman, ready
from .pods import pods_of, secret
from .test_compose import make_servers

pytestmark = pytest.mark.timeout(900)

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "inspect-coins.json"
ORDER = ("minio", "kafka", "resize", "detect", "filter", "orchestrator", "gateway")
USERS = {"kafka": 1000}


@dataclass(frozen=True, slots=True)
class Pods:
    callers: Callers
    containers: dict[str, str]

    def said(self) -> str:
        return "\n".join(
            f"{name}: {podman('logs', '--tail=12', each, check=False)}" for name, each in self.containers.items()
        )


@pytest.fixture(scope="module")
def pods(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pods]:
    if shutil.which("java") is None:
        pytest.skip("needs java")
    make_servers()
    folder, network = tmp_path_factory.mktemp("pods"), f"imageflow-test-{secrets.token_hex(4)}"
    given = [
        secret("minio-credentials", **{
            "endpoint": "http://minio:9000", "access-key": "imageflow", "secret-key": secrets.token_hex(16)
        }),
        secret("kafka-credentials", **{"bootstrap-servers": "kafka:9092"}),
    ]  # fmt: skip
    wanted = pods_of(documents("dev"))
    assert set(wanted) == set(ORDER)
    podman("network", "create", network)
    try:
        play(folder / "secrets.yaml", given, network)
        for name in ORDER:
            play(folder / f"{name}.yaml", wanted[name], network)
        containers = {name: f"{name}-{name}" for name in ORDER}
        [address] = json.loads(
            podman("inspect", containers["gateway"], "--format={{json .NetworkSettings.Networks}}").stdout
        )
        for callers in connect(f"http://{address}:8080", f"{address}:8080"):
            found = Pods(callers, containers)
            eventually(partial(ready, callers), found.said, within=120)
            yield found
    finally:
        for name in ORDER:
            podman("pod", "rm", "--force", "--time=2", name, check=False)
        podman("secret", "rm", "minio-credentials", "kafka-credentials", check=False)
        podman("network", "rm", "--force", network, check=False)


def play(path: Path, docs: list[dict[str, object]], network: str) -> None:
    path.write_text(yaml.safe_dump_all(docs))
    podman("kube", "play", f"--network={network}", str(path))


def test_a_photograph_goes_through_and_is_stored(pods: Pods) -> None:
    http = pods.callers.http
    assert http.put("/v1/images/in/coins.png", content=pictures.coins()).status_code == 200
    answer = http.post(
        "/v1/pipelines:execute", content=f'{{"pipeline": {EXAMPLE.read_text()}, "inputPath": "in/coins.png"}}'
    ).json()

    assert answer["status"] == "COMPLETED", (answer, pods.said())
    assert pictures.decoded(http.get(f"/v1/images/{answer['finalOutputPath']}").content)
