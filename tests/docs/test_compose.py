"""compose.yaml says of its servers what they are reached by, and of ours what they are."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.images.containers import MEMORY
from tools import images

FILE = Path(__file__).resolve().parents[2] / "compose.yaml"
TEXT = FILE.read_text()
COMMENT = "".join(line for line in TEXT.splitlines(keepends=True) if line.startswith("#"))
OURS = (*images.SERVICES, images.GATEWAY)


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """With every variable's default."""
    read = yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", TEXT))
    services: dict[str, Any] = read["services"]
    mounted = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", ())}
    assert {name for name in mounted if not name.startswith(".")} == set(read["volumes"])
    return services


def published(service: dict[str, Any]) -> dict[str, str]:
    """The container's port by the address on this machine."""
    return {address: inner for address, _, inner in (port.rpartition(":") for port in service.get("ports", ()))}


def test_every_image_has_a_fixed_version_and_listens_on_loopback_alone(services: dict[str, Any]) -> None:
    for service in services.values():
        assert re.search(r":[\w.-]*\d", service["image"]), service["image"]
        assert all(address.startswith("127.0.0.1:") for address in published(service))


def test_the_comment_names_the_addresses_that_are_published(services: dict[str, Any]) -> None:
    named = set(re.findall(r"127\.0\.0\.1:\d+", COMMENT))
    assert named == {address for service in services.values() for address in published(service)}


def test_the_broker_tells_each_client_the_address_that_it_comes_by(services: dict[str, Any]) -> None:
    settings = services["kafka"]["environment"]
    ((address, inner),) = published(services["kafka"]).items()
    inside = services["orchestrator"]["environment"]["IMAGEFLOW_KAFKA_BOOTSTRAP_SERVERS"]
    listeners = settings["KAFKA_LISTENERS"].split(",")
    assert settings["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{address},INTERNAL://{inside}"
    assert {f"PLAINTEXT://:{inner}", f"INTERNAL://:{inside.partition(':')[2]}"} <= set(listeners)


def test_the_store_has_the_user_that_the_comment_and_the_orchestrator_name(services: dict[str, Any]) -> None:
    user, ours = services["minio"]["environment"], services["orchestrator"]["environment"]
    named = f"IMAGEFLOW_S3_ACCESS_KEY={user['MINIO_ROOT_USER']} IMAGEFLOW_S3_SECRET_KEY={user['MINIO_ROOT_PASSWORD']}"
    assert named in COMMENT
    assert named == " ".join(f"{name}={ours[name]}" for name in ("IMAGEFLOW_S3_ACCESS_KEY", "IMAGEFLOW_S3_SECRET_KEY"))


@pytest.mark.parametrize("name", OURS)
def test_our_services_are_the_images_that_are_built_and_confined_as_they_are_tested(
    services: dict[str, Any], name: str
) -> None:
    service = services[name]
    built = service["build"]
    assert service["image"] == f"{images.PREFIX}/{name}:{images.version()}"
    assert os.path.exists(FILE.parent / built["dockerfile"])
    assert built.get("args", {}).get("SERVICE", images.GATEWAY) == name
    assert service["mem_limit"] == MEMORY[name]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]


def test_every_service_that_computes_sees_the_memory_that_is_shared(services: dict[str, Any]) -> None:
    for name in images.SERVICES:
        folder = services[name]["environment"]["IMAGEFLOW_SHARED_DIRECTORY"]
        assert f"shared:{folder}" in services[name]["volumes"]


OBSERVED = FILE.with_name("compose.observe.yaml")


def test_what_observes_has_the_names_that_others_know_it_by() -> None:
    composed = yaml.safe_load(OBSERVED.read_text())["services"]
    asked = yaml.safe_load((FILE.parent / "observability" / "prometheus" / "prometheus.yaml").read_text())
    targets = [place for job in asked["scrape_configs"] for each in job["static_configs"] for place in each["targets"]]
    assert {place.partition(":")[0] for place in targets} == {"otelcol"} <= composed.keys()
    aliases = composed["otelcol"]["networks"]["default"]["aliases"]
    for name in images.SERVICES:
        told = composed[name]["environment"]["OTEL_EXPORTER_OTLP_ENDPOINT"]
        assert told.removeprefix("http://").partition(":")[0] in aliases
    envoy = yaml.safe_load((FILE.parent / "gateway" / "envoy.yaml").read_text())
    assert {each["name"] for each in envoy["static_resources"]["clusters"]} >= set(aliases)
    assert composed["gateway"]["command"][1] == "/etc/envoy/traced.yaml"
    collector = (FILE.parent / "observability" / "collector" / "collector.yaml").read_text()
    assert all(f"{name}:" in collector for name in ("http://jaeger", "gateway"))


def test_what_observes_has_fixed_versions_and_listens_on_loopback_alone() -> None:
    text = OBSERVED.read_text()
    composed = yaml.safe_load(text)["services"]
    in_cluster = (FILE.parent / "k8s" / "components" / "monitoring" / "collector.yaml").read_text()
    assert composed["otelcol"]["image"] in in_cluster
    for service in composed.values():
        assert re.search(r":[\w.-]*\d", service.get("image", ":1"))
        assert all(f"http://{address}" in text for address in published(service))
        for volume in service.get("volumes", ()):
            assert not volume.startswith(".") or (FILE.parent / volume.split(":")[0]).exists()
