"""R24 R70: manifests, the gateway's configuration, compose.yaml, images and code say the same of the same thing."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from imageflow_common.kafka_settings import KafkaSettings
from imageflow_common.settings import ComponentSettings, ServerSettings, variable
from imageflow_detect.app import DetectSettings
from imageflow_orchestrator.registry import parse_registry
from imageflow_orchestrator.settings import OrchestratorSettings
from tests.images.containers import MEMORY
from tools import images, manifests

from .cluster import OVERLAYS, Document, documents, of_kind, pod_templates, with_components

TOP = Path(__file__).resolve().parents[2]
COMPONENTS = ("resize", "detect", "filter")
SETTINGS: dict[str, list[type[Any]]] = {
    "orchestrator": [OrchestratorSettings, KafkaSettings],
    "resize": [ComponentSettings],
    "filter": [ComponentSettings],
    "detect": [DetectSettings],
}
pytestmark = [pytest.mark.usefixtures("rendering"), pytest.mark.timeout(600)]  # it may have to be built


def quantity(text: str) -> float:
    """Bytes, or cores."""
    number, unit = re.fullmatch(r"([0-9.]+)(m|[KMG]i|[kmg])?", text).groups()  # type: ignore[union-attr]
    scale = {"m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "k": 2**10, "g": 2**30}
    return float(number) * scale.get(unit or "", 1)


def test_what_is_copied_is_what_it_is_copied_from() -> None:
    assert [path for path, text in manifests.written().items() if path.read_text(encoding="utf-8") != text] == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_service_has_its_image_of_this_version(overlay: str) -> None:
    found = {
        name: template["spec"]["containers"][0]["image"]
        for name, template in pod_templates(documents(overlay)).items()
        if name in (*images.SERVICES, images.GATEWAY)
    }
    prefix = {"dev": images.PREFIX, "production": "registry.example.com/imageflow"}[overlay]
    assert found == {name: f"{prefix}/{name}:{images.version()}" for name in (*images.SERVICES, images.GATEWAY)}


def test_the_servers_are_those_of_compose() -> None:
    composed = yaml.safe_load((TOP / "compose.yaml").read_text())["services"]
    templates = pod_templates(documents("dev"))
    for name in ("minio", "kafka"):
        assert templates[name]["spec"]["containers"][0]["image"] == composed[name]["image"]


def test_memory_is_the_same_wherever_a_service_runs() -> None:
    composed = yaml.safe_load((TOP / "compose.yaml").read_text())["services"]
    for name, template in pod_templates(documents("dev")).items():
        if name in MEMORY:
            limit = quantity(template["spec"]["containers"][0]["resources"]["limits"]["memory"])
            in_compose = quantity(composed[name]["mem_limit"].replace("m", "Mi").replace("g", "Gi"))
            in_tests = quantity(MEMORY[name].replace("m", "Mi").replace("g", "Gi"))
            assert limit == in_compose == in_tests, name


def test_the_registry_leads_to_services_that_are_there() -> None:
    docs = documents("dev")
    registry = parse_registry(of_kind(docs, "ConfigMap")["component-registry"]["data"]["registry.yaml"])
    assert set(registry.components) == set(COMPONENTS)
    for each in registry.components.values():
        [target] = each.targets
        assert target.address == f"dns:///{each.name}:{port_of(docs, each.name)}"


def test_the_gateway_leads_to_services_that_are_there() -> None:
    docs = documents("dev")
    envoy = yaml.safe_load((TOP / "gateway" / "envoy.yaml").read_text())
    places = [
        endpoint["endpoint"]["address"]["socket_address"]
        for cluster in envoy["static_resources"]["clusters"]
        if cluster["name"] not in ("admin", "otel-collector")
        for group in cluster["load_assignment"]["endpoints"]
        for endpoint in group["lb_endpoints"]
    ]
    assert {place["address"] for place in places} == {"orchestrator", *COMPONENTS}
    for place in places:
        assert place["port_value"] == port_of(docs, place["address"])
    listening = {
        each["name"]: each["address"]["socket_address"]["port_value"] for each in envoy["static_resources"]["listeners"]
    }
    opened = pod_templates(docs)["gateway"]["spec"]["containers"][0]["ports"]
    assert {each["containerPort"] for each in opened} == set(listening.values())


def test_the_gateways_spans_go_to_a_service_that_leads_to_the_collector() -> None:
    docs = documents("production")
    envoy = yaml.safe_load((TOP / "gateway" / "envoy.yaml").read_text())
    [cluster] = [each for each in envoy["static_resources"]["clusters"] if each["name"] == "otel-collector"]
    [endpoint] = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]
    place = endpoint["endpoint"]["address"]["socket_address"]
    services = [each for each in docs if each["kind"] == "Service" and each["metadata"]["name"] == place["address"]]
    spaces = {each["metadata"]["namespace"]: each["spec"] for each in services}
    assert spaces["image-processing"]["externalName"] == f"{place['address']}.monitoring.svc.cluster.local"
    assert place["port_value"] in {each["port"] for each in spaces["monitoring"]["ports"]}
    [container] = pod_templates(docs)["gateway"]["spec"]["containers"]
    assert container["args"][:2] == ["-c", "/etc/envoy/traced.yaml"]


def port_of(docs: list[dict[str, Any]], name: str) -> int:
    """The port of a service and of the container behind it, which headless services cannot tell apart."""
    [port] = of_kind(docs, "Service")[name]["spec"]["ports"]
    [opened] = pod_templates(docs)[name]["spec"]["containers"][0]["ports"]
    assert (port["port"], port["targetPort"]) == (opened["containerPort"], opened["name"])
    assert opened["containerPort"] == ServerSettings.model_fields["port"].default
    return int(port["port"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_variable_is_a_setting_and_its_value_is_taken(
    overlay: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key that is misspelt would be passed over by the service."""
    check_settings(documents(overlay), monkeypatch)


@pytest.mark.parametrize("components", [("triton", "gpu", "minio", "kafka"), ("colocated", "minio", "kafka")])
def test_every_variable_of_the_components_is_a_setting_too(
    components: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_settings(with_components(tmp_path, *components), monkeypatch)


def check_settings(docs: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    for template in pod_templates(docs).values():
        for container in template["spec"]["containers"]:
            if container["name"] in SETTINGS:
                given = variables(docs, container) | mounted_settings(docs, template, container)
                with monkeypatch.context() as environment:
                    for name, value in given.items():
                        environment.setenv(name, value)
                    for kind in SETTINGS[container["name"]]:
                        kind()
                known = {
                    f"{kind.model_config['env_prefix']}{field}".upper()
                    for kind in SETTINGS[container["name"]]
                    for field in kind.model_fields
                }
                assert {name for name in given if name.startswith("IMAGEFLOW_")} <= known, container["name"]


def variables(docs: list[dict[str, Any]], container: Document) -> dict[str, str]:
    """Those of Secrets have some value."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        found |= of_kind(docs, "ConfigMap")[source["configMapRef"]["name"]]["data"]
    for each in container.get("env", ()):
        found[each["name"]] = each.get("value", "https://example:9000")
    return found


def mounted_settings(docs: list[dict[str, Any]], template: Document, container: Document) -> dict[str, str]:
    """Those in the directory that the container is told of."""
    directory = variables(docs, container)["IMAGEFLOW_SETTINGS_DIRECTORY"]
    [mount] = [each for each in container["volumeMounts"] if each["mountPath"] == directory]
    [volume] = [each for each in template["spec"]["volumes"] if each["name"] == mount["name"]]
    assert mount["readOnly"]
    assert "subPath" not in mount, "the kubelet does not change those"
    data: dict[str, str] = of_kind(docs, "ConfigMap")[volume["configMap"]["name"]]["data"]
    return data


@pytest.mark.parametrize("components", [("minio", "kafka"), ("colocated", "minio", "kafka")])
def test_settings_that_are_mounted_count_without_a_restart_and_are_no_variables(
    components: tuple[str, ...], tmp_path: Path
) -> None:
    """R24: those of its environment would come first, and no pod starts anew when the others change."""
    docs = with_components(tmp_path, *components)
    found = set()
    for template in pod_templates(docs).values():
        for container in template["spec"]["containers"]:
            name = container["name"]
            if name in SETTINGS:
                found.add(name)
                live = {variable(SETTINGS[name][0], field) for field in SETTINGS[name][0].LIVE}
                assert mounted_settings(docs, template, container) == dict(
                    of_kind(docs, "ConfigMap")[f"{name}-settings"]["data"]
                )
                assert mounted_settings(docs, template, container).keys() <= live
                assert not variables(docs, container).keys() & live
    assert found == set(SETTINGS)


def test_who_is_told_to_end_has_time_to() -> None:
    """D17: what a service takes to drain and to finish is less than it is given."""
    docs = documents("production")
    settings = next(each for name, each in of_kind(docs, "ConfigMap").items() if name.startswith("service-environment"))
    drain, grace = (float(settings["data"][f"IMAGEFLOW_{name}_SECONDS"]) for name in ("DRAIN", "SHUTDOWN_GRACE"))
    for name, template in pod_templates(docs).items():
        given = template["spec"].get("terminationGracePeriodSeconds", 30)
        if name in images.SERVICES:
            assert given >= drain + grace + 5, name
        if name == images.GATEWAY:
            [container] = template["spec"]["containers"]
            assert given > float(container["lifecycle"]["preStop"]["exec"]["command"][1])
