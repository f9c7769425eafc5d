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
from tests.kubernetes.cluster import documents, pod_templates
from tests.kubernetes.test_agreement import quantity

from .containers import address_of, eventually, podman, ready
from .pods import pods_of, secrets_of
from .stand_ins import make_kafka, make_minio

pytestmark = pytest.mark.timeout(900)

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "inspect-coins.json"
ORDER = ("minio", "kafka", "resize", "detect", "filter", "orchestrator", "gateway")


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
    make_minio()
    make_kafka()
    folder, network = tmp_path_factory.mktemp("pods"), f"imageflow-test-{secrets.token_hex(4)}"
    credentials = {
        "minio-credentials": {
            "endpoint": "http://minio:9000",
            "access-key": "imageflow",
            "secret-key": secrets.token_hex(16),
        },
        "kafka-credentials": {"bootstrap-servers": "kafka:9092"},
    }
    given = {key: value for name, values in credentials.items() for key, value in secrets_of(name, values).items()}
    wanted = pods_of(documents("dev"))
    assert set(wanted) == set(ORDER)
    podman("network", "create", network)
    try:
        for name, value in given.items():
            (folder / name).write_text(value)
            podman("secret", "create", name, str(folder / name))
        for name in ORDER:
            play(folder / f"{name}.yaml", wanted[name], network)
        containers = {name: f"{name}-{name}" for name in ORDER}
        address = address_of_pod("gateway")
        for callers in connect(f"http://{address}:8080", f"{address}:8080"):
            found = Pods(callers, containers)
            eventually(partial(ready, callers), found.said, within=120)
            yield found
    finally:
        for name in ORDER:
            podman("pod", "rm", "--force", "--time=2", name, check=False)
        podman("secret", "rm", *given, check=False)
        made = {each["metadata"]["name"] for docs in wanted.values() for each in docs if each["kind"] == "ConfigMap"}
        podman("volume", "rm", "--force", *made, *credentials, check=False)
        podman("network", "rm", "--force", network, check=False)


def address_of_pod(pod: str) -> str:
    """On its network: the pod's first container has it, for all."""
    return address_of(json.loads(podman("pod", "inspect", pod).stdout)["InfraContainerID"])


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


def test_they_are_confined_as_it_is_written(pods: Pods) -> None:
    wanted = {name: template["spec"] for name, template in pod_templates(documents("dev")).items()}
    for name, container in pods.containers.items():
        inspected = json.loads(podman("inspect", container).stdout)[0]
        [written] = wanted[name]["containers"]
        user = wanted[name]["securityContext"]["runAsUser"]
        assert inspected["Config"]["User"].split(":")[0] == str(user), name
        assert inspected["HostConfig"]["ReadonlyRootfs"] is written["securityContext"]["readOnlyRootFilesystem"], name
        assert inspected["HostConfig"]["Memory"] == quantity(written["resources"]["limits"]["memory"]), name
        assert not inspected["EffectiveCaps"], name
        assert inspected["State"]["Running"], name


def test_an_execution_that_is_accepted_is_run_by_who_holds_its_part_of_the_topic(pods: Pods) -> None:
    http = pods.callers.http
    http.put("/v1/images/in/coins.png", content=pictures.coins())
    body = {"pipeline": json.loads(EXAMPLE.read_text()), "inputPath": "in/coins.png"}
    accepted = http.post("/v1/executions", json=body).json()["executionId"]

    def ended() -> bool:
        return bool(http.get(f"/v1/executions/{accepted}").json()["status"] == "COMPLETED")

    eventually(ended, pods.said)
    assert "kafka.holding" in podman("logs", pods.containers["orchestrator"]).stderr
    assert http.get("/readyz").json()["degraded"] == []
