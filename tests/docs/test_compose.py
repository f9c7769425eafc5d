"""compose.yaml says of its servers what they are reached by."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

FILE = Path(__file__).resolve().parents[2] / "compose.yaml"
COMMENT = "".join(line for line in FILE.read_text().splitlines(keepends=True) if line.startswith("#"))


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    read = yaml.safe_load(FILE.read_text())
    assert set(read) == {"services", "volumes"}
    named = {volume.split(":")[0] for service in read["services"].values() for volume in service["volumes"]}
    assert named == set(read["volumes"])
    services: dict[str, Any] = read["services"]
    return services


def published(service: dict[str, Any]) -> dict[str, str]:
    """The container's port by the address on this machine."""
    return {address: inner for address, _, inner in (port.rpartition(":") for port in service["ports"])}


def test_every_server_has_a_fixed_version_and_listens_on_loopback_alone(services: dict[str, Any]) -> None:
    for service in services.values():
        assert re.search(r":[\w.-]*\d", service["image"]), service["image"]
        assert all(address.startswith("127.0.0.1:") for address in published(service))


def test_the_comment_names_the_addresses_that_are_published(services: dict[str, Any]) -> None:
    named = set(re.findall(r"127\.0\.0\.1:\d+", COMMENT))
    assert named == {address for service in services.values() for address in published(service)}


def test_the_broker_tells_clients_the_address_that_is_published(services: dict[str, Any]) -> None:
    settings = services["kafka"]["environment"]
    ((address, inner),) = published(services["kafka"]).items()
    assert settings["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{address}"
    assert f"PLAINTEXT://:{inner}" in settings["KAFKA_LISTENERS"].split(",")


def test_the_store_has_the_user_that_the_comment_names(services: dict[str, Any]) -> None:
    user = services["minio"]["environment"]
    named = f"IMAGEFLOW_S3_ACCESS_KEY={user['MINIO_ROOT_USER']} IMAGEFLOW_S3_SECRET_KEY={user['MINIO_ROOT_PASSWORD']}"
    assert named in COMMENT
