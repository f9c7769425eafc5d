"""compose.yaml as it stands: the whole system on MinIO and Kafka, in images made here."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from kafka import KafkaConsumer

from tests.e2e import pictures
from tests.e2e.callers import Callers, connect
from tools import images

from .containers import ENVIRONMENT, eventually, podman, ready
from .stand_ins import make_kafka, make_minio

pytestmark = pytest.mark.timeout(900)

COMPOSE = images.TOP / "compose.yaml"


@dataclass(frozen=True, slots=True)
class Composed:
    callers: Callers
    bootstrap_servers: str


@pytest.fixture(scope="module")
def composed(built: None) -> Iterator[Composed]:
    if shutil.which("podman-compose") is None:
        pytest.skip("needs podman-compose")
    make_minio()
    make_kafka()
    ports = {f"{name}_PORT": str(_free_port()) for name in ("GATEWAY", "MINIO", "KAFKA")}
    project = f"imageflow-test-{secrets.token_hex(4)}"

    def compose(*arguments: str) -> None:
        command = ["podman-compose", "-p", project, "-f", str(COMPOSE), *arguments]
        done = subprocess.run(command, env=ENVIRONMENT | ports, cwd=images.TOP, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    try:
        compose("up", "-d")
        port = int(ports["GATEWAY_PORT"])
        for callers in connect(f"http://127.0.0.1:{port}", f"127.0.0.1:{port}"):
            eventually(partial(ready, callers), lambda: podman("ps", "--all").stdout, within=120)
            yield Composed(callers, f"127.0.0.1:{ports['KAFKA_PORT']}")
    finally:
        compose("down", "-v")


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _inspected(key: str) -> dict[str, Any]:
    pipeline = json.loads((images.TOP / "examples/inspect-coins.json").read_text())
    return {"pipeline": pipeline, "inputPath": key}


def test_a_photograph_goes_through_and_is_stored_in_minio(composed: Composed) -> None:
    http = composed.callers.http
    assert http.put("/v1/images/in/coins.png", content=pictures.coins()).status_code == 200
    pipeline = (images.TOP / "examples/inspect-coins.json").read_text()
    answer = http.post(
        "/v1/pipelines:execute", content=f'{{"pipeline": {pipeline}, "inputPath": "in/coins.png"}}'
    ).json()

    assert answer["status"] == "COMPLETED", answer
    assert pictures.decoded(http.get(f"/v1/images/{answer['finalOutputPath']}").content)


def test_images_travel_by_the_volume_in_memory(composed: Composed) -> None:
    plan = composed.callers.post("/v1/pipelines:validate", {"pipeline": _inspected("")["pipeline"]}).json()

    assert {step["transport"] for step in plan["steps"]} == {"shared-memory"}, plan


def test_an_execution_is_told_of_on_kafka(composed: Composed) -> None:
    http = composed.callers.http
    http.put("/v1/images/in/coins.png", content=pictures.coins())
    answer = http.post("/v1/executions", json=_inspected("in/coins.png"))
    assert answer.status_code == 200, answer.text
    consumer = KafkaConsumer(
        "pipeline-completions",
        bootstrap_servers=composed.bootstrap_servers,
        auto_offset_reset="earliest",
        consumer_timeout_ms=30_000,
    )
    keys = (message.key.decode() for message in consumer)

    assert answer.json()["executionId"] in keys
    consumer.close()
