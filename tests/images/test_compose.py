"""compose.yaml as it stands: the whole system on MinIO and Kafka. Those two are the real servers in images made here,
which take what their makers' images take, for those cannot be fetched on every machine."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from kafka import KafkaConsumer

from backends.cache import cache_directory
from backends.kafka import KafkaServer
from backends.minio import MinIO
from tests.e2e import pictures
from tests.e2e.callers import Callers, connect
from tools import images

from .containers import ENVIRONMENT, eventually, podman, ready

pytestmark = pytest.mark.timeout(900)

COMPOSE = images.TOP / "compose.yaml"
_KAFKA_ENTRY = """
import os, subprocess
names = {name: value for name, value in os.environ.items() if name.startswith("KAFKA_")}
with open("/tmp/server.properties", "w") as file:
    for name, value in names.items():
        file.write(name.removeprefix("KAFKA_").lower().replace("_", ".") + "=" + value + "\\n")
java = ["/jvm/bin/java", "-Xmx256m", "-cp", "/jars/*"]
cluster = ["-t", "MkU3OEVBNTcwNTJENDM2Qk", "-c", "/tmp/server.properties", "--ignore-formatted"]
subprocess.run([*java, "kafka.tools.StorageTool", "format", *cluster], check=True)
os.execv(java[0], [*java, "kafka.Kafka", "/tmp/server.properties"])
"""


@dataclass(frozen=True, slots=True)
class Composed:
    callers: Callers
    bootstrap_servers: str


@pytest.fixture(scope="module")
def composed(built: None) -> Iterator[Composed]:
    if shutil.which("podman-compose") is None:
        pytest.skip("needs podman-compose")
    make_servers()
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


def make_servers() -> None:
    make_minio()
    jvm = Path(os.path.realpath(shutil.which("java") or "")).parents[1]
    with tempfile.TemporaryDirectory() as folder:
        kafka = KafkaServer(Path(folder, "kafka"))
        kafka.install()
        shutil.copytree(cache_directory() / "kafka" / "lib", f"{folder}/jars")
        shutil.copytree(jvm, f"{folder}/jvm", ignore_dangling_symlinks=True)
        Path(folder, "entry.py").write_text(_KAFKA_ENTRY)
        lines = ["COPY jars /jars", "COPY jvm /jvm", "COPY entry.py /entry.py", 'CMD ["python3", "/entry.py"]']
        _make_server("kafka", folder, lines)


def make_minio() -> str:
    """Answers its image's name."""
    with tempfile.TemporaryDirectory() as folder:
        minio = MinIO(Path(folder, "minio"))
        minio.install()
        shutil.copy2(minio.command()[0], f"{folder}/minio-server")
        return _make_server("minio", folder, ["COPY minio-server /usr/local/bin/minio", 'ENTRYPOINT ["minio"]'])


def _make_server(name: str, folder: str, lines: list[str]) -> str:
    Path(folder, "Dockerfile").write_text("\n".join([f"FROM {images.base_of('resize')}", *lines, ""]))
    image = str(yaml.safe_load(COMPOSE.read_text())["services"][name]["image"])
    images.build_folder(folder, image)
    return image


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
