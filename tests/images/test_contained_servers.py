"""MinIO and Kafka in containers, as `python -m backends` and a test session have them where there is an engine; out of
images made here."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.admin import NewTopic

from backends.container import ContainedKafka, ContainedMinIO
from tests.integration.test_given_servers import ROOT, run_tests

from .containers import ENVIRONMENT, podman
from .stand_ins import make_kafka, make_minio

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True, slots=True)
class Backends:
    """`python -m backends` with a folder of its own."""

    run: Path

    def __call__(self, action: str) -> str:
        command = [sys.executable, "-m", "backends", action, "minio", "kafka"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def up(self) -> dict[str, str]:
        return dict(re.findall(r"^export (\w+)=(\S+)$", self("up"), re.M))


@pytest.fixture(scope="module", autouse=True)
def engine(stand_ins: None) -> Iterator[None]:
    """Podman, which nothing here may do without, with the images."""
    make_minio()
    make_kafka()
    with pytest.MonkeyPatch.context() as patch:
        for name in ("CONTAINERS_CONF", "STORAGE_DRIVER"):
            patch.setenv(name, ENVIRONMENT[name])
        patch.setenv("IMAGEFLOW_BACKENDS_ENGINE", "podman")
        yield


@pytest.fixture
def backends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backends]:
    monkeypatch.setenv("IMAGEFLOW_BACKENDS_CACHE", str(tmp_path))
    yield Backends(tmp_path / "run")
    for server in (ContainedMinIO(tmp_path / "run" / "minio"), ContainedKafka(tmp_path / "run" / "kafka")):
        server.discard()


def test_what_was_stored_and_sent_is_there_after_down_and_up(backends: Backends) -> None:
    said = backends.up()
    s3(said).create_bucket(Bucket="photos")
    s3(said).put_object(Bucket="photos", Key="a", Body=b"image")
    broker = said["IMAGEFLOW_KAFKA_BOOTSTRAP_SERVERS"]
    admin = KafkaAdminClient(bootstrap_servers=broker)
    admin.create_topics([NewTopic("news", 1, 1)])
    admin.close()
    producer = KafkaProducer(bootstrap_servers=broker)
    producer.send("news", b"message").get(timeout=30)
    producer.close()
    running = containers_of(backends.run)
    assert all(f"container {each[:12]}" in backends("status") for each in running)

    assert backends.up() == said
    assert containers_of(backends.run) == running
    backends("down")
    assert backends("status").split("\n")[:2] == ["minio: not running", "kafka: not running"]
    assert containers_of(backends.run) == []
    assert backends.up() == said

    assert s3(said).get_object(Bucket="photos", Key="a")["Body"].read() == b"image"
    consumer = KafkaConsumer("news", bootstrap_servers=broker, auto_offset_reset="earliest", consumer_timeout_ms=30_000)
    assert next(consumer).value == b"message"
    consumer.close()


def test_they_are_published_on_loopback_alone_bounded_and_not_restarted(backends: Backends) -> None:
    backends.up()
    for container in containers_of(backends.run):
        [inspected] = json.loads(podman("inspect", container).stdout)
        host = inspected["HostConfig"]
        published = [place for places in host["PortBindings"].values() for place in places]
        assert {place["HostIp"] for place in published} == {"127.0.0.1"}
        assert host["Memory"] == 1 << 30
        assert host["RestartPolicy"]["Name"] in ("", "no")


def test_a_test_session_ends_them_and_leaves_nothing(tmp_path: Path) -> None:
    """Its tests kill them, stop them, and reach the broker in every way."""
    folder = tmp_path / "session"
    run_tests(
        *("tests/kafka/test_broker.py", "tests/kafka/test_away.py", "libs/common/tests/test_store_s3.py"),
        *("-k", "not seaweedfs", f"--basetemp={folder}"),
        IMAGEFLOW_PROVE="",
    )
    assert containers_of(folder) == []
    for server in (ContainedMinIO(folder / "minio0"), ContainedKafka(folder / "kafka0")):
        assert (server.directory / "container.json").exists()
        assert not (server.directory / "process.json").exists()
        assert server.volume not in podman("volume", "ls", "--quiet").stdout.split()


def containers_of(folder: Path) -> list[str]:
    """Running or not."""
    listed = json.loads(podman("ps", "--all", "--format=json").stdout)
    label = "imageflow.backends"
    return sorted(each["Id"] for each in listed if ((each["Labels"] or {}).get(label, "")).startswith(f"{folder}/"))


def s3(said: dict[str, str]) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=said["IMAGEFLOW_S3_ENDPOINT"],
        region_name="us-east-1",
        aws_access_key_id=said["IMAGEFLOW_S3_ACCESS_KEY"],
        aws_secret_access_key=said["IMAGEFLOW_S3_SECRET_KEY"],
    )
