"""Tests run on servers that the environment names."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

from backends.kafka import KafkaServer
from backends.s3 import S3Server

ROOT = Path(__file__).resolve().parents[2]


def run_tests(*arguments: str, **environment: str) -> str:
    """What pytest said of them."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rs", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


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
    assert not list((tmp_path / "inner").glob("minio*/process.json"))


def test_a_given_broker_is_used(kafka_server: KafkaServer, tmp_path: Path) -> None:
    run_tests(
        "tests/kafka/test_broker.py::test_topics_are_made_only_when_asked",
        f"--basetemp={tmp_path / 'inner'}",
        IMAGEFLOW_BACKENDS_KAFKA_SERVERS=kafka_server.bootstrap_servers,
    )
    assert not list((tmp_path / "inner").glob("kafka*/process.json"))
