"""`imageflow doctor` names what is wrong, and what to do."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from .conftest import command, environment


def doctor(folder: Path, **variables: str) -> tuple[int, dict[str, dict[str, str]]]:
    done = subprocess.run(
        command("doctor", "--json", "--url", "http://127.0.0.1:1"),
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment(**variables),
        timeout=60,
        check=False,
    )
    return done.returncode, {each["part"]: each for each in json.loads(done.stdout)}


def test_what_is_not_configured_is_not_wrong(tmp_path: Path) -> None:
    status, found = doctor(tmp_path)
    assert status == 1  # no gateway
    assert found["gateway"]["state"] == "wrong"
    assert found["store"]["state"] == "will be made"
    assert {part for part, each in found.items() if each["state"] == "not configured"} == {
        "kafka",
        "triton",
        "telemetry",
    }


@pytest.mark.parametrize(
    ("part", "variables"),
    [
        ("kafka", {"IMAGEFLOW_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}),
        ("store", {"IMAGEFLOW_STORE_URL": "file:///dev/null/store"}),
        ("triton", {"IMAGEFLOW_TRITON_URL": "127.0.0.1:1"}),
        ("telemetry", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}),
    ],
)
def test_what_cannot_be_reached_is_named_with_what_to_do(tmp_path: Path, part: str, variables: dict[str, str]) -> None:
    status, found = doctor(tmp_path, **variables)
    assert status == 1
    assert found[part]["problem"]
    assert found[part]["advice"]
