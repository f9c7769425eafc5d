"""Tests run on servers that the environment names."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from backends.kafka import KafkaServer
from backends.s3 import S3Server
from backends.server import free_ports

ROOT = Path(__file__).resolve().parents[2]


def run_tests(*arguments: str, **environment: str) -> str:
    """What pytest said of them."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def backends_up(folder: Path, *names: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "backends", "up", *names],
        cwd=ROOT,
        env={**os.environ, "IMAGEFLOW_BACKENDS_CACHE": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_given_s3_server_is_used_and_is_not_paused(minio: S3Server, tmp_path: Path) -> None:
    said = run_tests(
        "libs/common/tests/test_store_s3.py",
        "-k",
        "minio and (conditional_too or stands_still)",
        f"--basetemp={tmp_path / 'inner'}",
        IMAGEFLOW_BACKENDS_S3_URL=minio.endpoint,
    )
    assert "1 passed, 1 skipped" in said
    assert "isn't ours to pause" in said
    with urllib.request.urlopen(minio.endpoint + minio.ready_path, timeout=10) as answer:
        assert answer.status == 200
    assert not started_in(tmp_path / "inner")


def test_a_given_broker_is_used(kafka_server: KafkaServer, tmp_path: Path) -> None:
    run_tests(
        "tests/kafka/test_broker.py::test_topics_are_made_only_when_asked",
        f"--basetemp={tmp_path / 'inner'}",
        IMAGEFLOW_BACKENDS_KAFKA_SERVERS=kafka_server.bootstrap_servers,
    )
    assert not started_in(tmp_path / "inner")


def test_given_servers_are_told_of_and_nothing_is_started(
    minio: S3Server, kafka_server: KafkaServer, tmp_path: Path
) -> None:
    done = backends_up(
        tmp_path,
        IMAGEFLOW_BACKENDS_S3_URL=minio.endpoint,
        IMAGEFLOW_BACKENDS_KAFKA_SERVERS=kafka_server.bootstrap_servers,
    )
    assert done.returncode == 0, done.stderr
    assert f"export IMAGEFLOW_S3_ENDPOINT={minio.endpoint}\n" in done.stdout
    assert f"export IMAGEFLOW_KAFKA_BOOTSTRAP_SERVERS={kafka_server.bootstrap_servers}\n" in done.stdout
    assert not started_in(tmp_path)


@pytest.mark.parametrize(
    ("name", "variable", "place"),
    [
        ("seaweedfs", "IMAGEFLOW_BACKENDS_S3_URL", "http://127.0.0.1:{port}"),
        ("kafka", "IMAGEFLOW_BACKENDS_KAFKA_SERVERS", "127.0.0.1:{port}"),
    ],
)
def test_a_given_server_that_does_not_answer_is_not_replaced(
    name: str, variable: str, place: str, tmp_path: Path
) -> None:
    [port] = free_ports(1)
    done = backends_up(tmp_path, name, **{variable: place.format(port=port)})
    assert done.returncode == 1
    assert "does not answer at" in done.stderr
    assert done.stdout == ""
    assert not started_in(tmp_path)


def started_in(folder: Path) -> list[Path]:
    """What is noted of processes and containers."""
    return [path for path in folder.rglob("*.json") if path.name in ("process.json", "container.json")]
