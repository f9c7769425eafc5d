"""Which processes there are and what they are told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from imageflow_cli.registry_file import InvalidRegistry, load_registry
from imageflow_cli.topology import Places, Topology, UnknownReplicas, UpOptions, plan_topology
from imageflow_orchestrator.registry import parse_registry


def plan(tmp_path: Path, options: UpOptions | None = None, registry: str | None = None) -> Topology:
    file = tmp_path / "user.yaml" if registry is not None else None
    if file is not None and registry is not None:
        file.write_text(registry)
    places = Places(tmp_path / "run", tmp_path / "store", tmp_path / "memory")
    return plan_topology(options or UpOptions(), load_registry(file), places)


def registered(topology: Topology, name: str) -> str:
    (target,) = parse_registry(topology.registry).lookup(name).targets
    return target.address


def test_there_is_one_process_for_each_service(tmp_path: Path) -> None:
    topology = plan(tmp_path)
    assert [p.name for p in topology.programs] == ["resize", "detect", "filter", "orchestrator", "gateway"]
    assert topology.components[0].command == (sys.executable, "-m", "imageflow_resize")
    assert topology.url == "http://127.0.0.1:8080"
    assert len({p.address for p in topology.programs}) == 5


def test_a_service_is_told_where_to_listen_and_what_to_share(tmp_path: Path) -> None:
    topology = plan(tmp_path, UpOptions(models=tmp_path / "models", log_format="json", log_level="DEBUG"))
    detect = topology.components[1]
    told = detect.environment
    assert f"{told['IMAGEFLOW_HOST']}:{told['IMAGEFLOW_PORT']}" == detect.address
    assert told["IMAGEFLOW_SHARED_DIRECTORY"] == topology.orchestrator.environment["IMAGEFLOW_SHARED_DIRECTORY"]
    assert told["IMAGEFLOW_MODELS_DIRECTORY"] == str(tmp_path / "models")
    assert (told["IMAGEFLOW_LOG_FORMAT"], told["IMAGEFLOW_LOG_LEVEL"]) == ("json", "DEBUG")


def test_components_are_told_of_a_triton_where_there_is_one(tmp_path: Path) -> None:
    assert "IMAGEFLOW_TRITON_URL" not in plan(tmp_path).components[1].environment
    detect = plan(tmp_path, UpOptions(triton="127.0.0.1:8001")).components[1]
    assert detect.environment["IMAGEFLOW_TRITON_URL"] == "127.0.0.1:8001"


def test_without_shared_memory_nobody_is_told_of_a_folder(tmp_path: Path) -> None:
    topology = plan(tmp_path, UpOptions(shared_memory=False))
    assert not any("IMAGEFLOW_SHARED_DIRECTORY" in program.environment for program in topology.programs)


def test_the_orchestrator_is_told_its_store_and_its_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("IMAGEFLOW_STORE_URL", raising=False)
    told = plan(tmp_path).orchestrator.environment
    assert told["IMAGEFLOW_STORE_URL"] == (tmp_path / "store").as_uri()
    assert told["IMAGEFLOW_REGISTRY_FILE"] == str(tmp_path / "run" / "registry.yaml")


def test_the_orchestrator_alone_is_told_of_a_store_that_was_asked_for(tmp_path: Path) -> None:
    asked = {"IMAGEFLOW_STORE_URL": "s3://photos", "IMAGEFLOW_S3_ENDPOINT": "http://127.0.0.1:9000"}
    topology = plan(tmp_path, UpOptions(environment=asked))
    assert asked.items() <= topology.orchestrator.environment.items()
    assert not any(asked.keys() & program.environment.keys() for program in topology.components)


def test_replicas_share_one_registry_entry_and_one_cluster(tmp_path: Path) -> None:
    topology = plan(tmp_path, UpOptions(replicas={"resize": 3}))
    replicas = topology.components[:3]
    assert [p.name for p in replicas] == ["resize-1", "resize-2", "resize-3"]
    assert registered(topology, "resize") == "ipv4:" + ",".join(p.address for p in replicas)
    clusters = {c["name"]: c for c in yaml.safe_load(topology.gateway_config)["static_resources"]["clusters"]}
    assert len(clusters["resize"]["load_assignment"]["endpoints"][0]["lb_endpoints"]) == 3


def test_replicas_of_what_is_not_started_here_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownReplicas, match="no blur is started here; there are detect, filter, resize"):
        plan(tmp_path, UpOptions(replicas={"blur": 2}))


def test_a_component_of_the_users_is_started_by_its_command(tmp_path: Path) -> None:
    topology = plan(tmp_path, registry="components: {sepia: {command: [python, sepia.py]}}")
    sepia = topology.components[3]
    assert (sepia.name, sepia.command, sepia.directory) == ("sepia", ("python", "sepia.py"), tmp_path)
    assert sepia.environment["PATH"].startswith(str(Path(sys.executable).parent))
    assert registered(topology, "sepia") == f"ipv4:{sepia.address}"
    assert registered(topology, "ai_detection").startswith("ipv4:127.0.0.1:")


@pytest.mark.parametrize("place", ['address: "10.0.0.7:9090"', 'targets: {default: {address: "10.0.0.7:9090"}}'])
@pytest.mark.parametrize("name", ["sepia", "resize"])
def test_a_component_with_an_address_is_not_started(tmp_path: Path, name: str, place: str) -> None:
    topology = plan(tmp_path, registry=f"components: {{{name}: {{{place}}}}}")
    assert name not in [p.name for p in topology.programs]
    assert registered(topology, name) == "10.0.0.7:9090"


def test_other_fields_of_the_users_entry_win(tmp_path: Path) -> None:
    topology = plan(tmp_path, registry="components: {resize: {timeout: 5s, parameters: {width: 64}}}")
    entry = parse_registry(topology.registry).lookup("resize")
    assert entry.parameters == {"width": 64}
    assert registered(topology, "resize") == f"ipv4:{topology.components[0].address}"


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("[]", ["components"]),
        ("components: [a]", ["components"]),
        ("components: {a: 3, b: {command: run}, c: {}}", ["components.a", "components.b.command", "components.c"]),
        ("components: {a: {targets: {gpu: {}}}}", ["components.a.targets.gpu.address"]),
        ("components: {a: {address: 3}}", ["components.a.address"]),
        ("a: [", []),
    ],
)
def test_a_registry_with_faults_is_refused_with_every_one(tmp_path: Path, text: str, fields: list[str]) -> None:
    with pytest.raises(InvalidRegistry) as caught:
        plan(tmp_path, registry=text)
    assert [violation.field for violation in caught.value.violations] == fields


def test_a_registry_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRegistry, match="No such file"):
        load_registry(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("environment", "percent"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4317"}, 100.0),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "https://collector:4317"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://[::1"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:port"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:1", "OTEL_TRACES_SAMPLER": "always_off"}, None),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:1",
                "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
                "OTEL_TRACES_SAMPLER_ARG": "0.1",
            },
            10.0,
        ),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://a:1",
                "OTEL_TRACES_SAMPLER": "traceidratio",
                "OTEL_TRACES_SAMPLER_ARG": "much",
            },
            100.0,
        ),
    ],
)
def test_the_gateway_makes_spans_as_the_services_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], percent: float | None
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    config = yaml.safe_load(plan(tmp_path).gateway_config)
    listener = next(each for each in config["static_resources"]["listeners"] if each["name"] == "gateway")
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    clusters = {each["name"] for each in config["static_resources"]["clusters"]}
    assert manager.get("tracing", {}).get("random_sampling", {}).get("value") == percent
    assert ("otel-collector" in clusters) == (percent is not None)


@pytest.mark.parametrize(("named", "taken"), [("23456", True), ("0", False), ("99999", False), ("x", False)])
def test_a_collector_may_say_where_it_looks_for_the_gateways_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, taken: bool
) -> None:
    monkeypatch.setenv("IMAGEFLOW_GATEWAY_STATUS_PORT", named)
    config = yaml.safe_load(plan(tmp_path).gateway_config)
    status = next(each for each in config["static_resources"]["listeners"] if each["name"] == "status")
    assert (str(status["address"]["socket_address"]["port_value"]) == named) == taken
