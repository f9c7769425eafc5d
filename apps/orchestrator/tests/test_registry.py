"""The registry says which components there are; a file with faults is refused with all of them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

import imageflow_orchestrator
from imageflow_common.errors import InvalidArgument, NotFound
from imageflow_orchestrator.registry import parse_registry

_DEFAULT = Path(imageflow_orchestrator.__file__).parent / "registry.yaml"
_FULL = """
profiles:
  tiny: {cpu: 50m, memory: 64Mi}
components:
  blur:
    aliases: [soften]
    image: example/blur
    timeout: 90s
    command: [blur, --port, "0"]
    parameters: {strength: 2}
    targets:
      default: {address: "dns:///blur:9090", profile: tiny}
      gpu: {address: "dns:///blur-gpu:9090", resources: {cpu: 2, memory: 1Gi, gpu: 1}, max_in_flight: 5}
    versions:
      "1.0": {targets: {default: {address: "dns:///blur-old:9090", profile: small}}}
      "2.0": {}
"""


def test_the_default_file_has_the_three_components_and_their_aliases() -> None:
    registry = parse_registry(_DEFAULT.read_text())
    assert set(registry.components) == {"resize", "detect", "filter"}
    for alias in ("ai_detection", "ai-detection", "object-detection"):
        assert registry.lookup(alias).name == "detect"
    assert registry.lookup("resize").targets[0].address == "dns:///resize:9090"


def test_every_field_of_an_entry_is_read() -> None:
    blur = parse_registry(_FULL).lookup("soften")
    assert (blur.name, blur.image, blur.timeout) == ("blur", "example/blur", timedelta(seconds=90))
    assert (blur.command, blur.parameters) == (("blur", "--port", "0"), {"strength": 2})
    default, gpu = blur.targets
    assert (default.amounts.cpu, gpu.amounts.gpu, gpu.max_in_flight) == (50, 1, 5)


def test_a_version_runs_on_its_own_targets_or_on_the_components() -> None:
    blur = parse_registry(_FULL).lookup("blur")
    assert blur.targets_of("1.0")[0].address == "dns:///blur-old:9090"
    assert blur.targets_of("2.0") == blur.targets_of("unheard of") == blur.targets


def test_a_name_is_matched_letter_for_letter_and_a_near_one_suggested() -> None:
    registry = parse_registry(_FULL)
    assert registry.find("Blur") is None
    with pytest.raises(NotFound, match="did you mean 'blur'"):
        registry.lookup("blurr")


_FAULTS = {
    "components: {}": "components",
    "componets: {}": "componets",
    "- a": "",
    "components: {a: {}}": "components.a.targets",
    "components: {1: {}}": "components",
    "components: {a b: {}}": "components.a b",
    "components: {a: {targets: {d: {profile: small}}}}": "components.a.targets.d.address",
    "components: {a: {targets: {d: {address: x}}}}": "components.a.targets.d",
    "components: {a: {targets: {d: {address: x, profile: smal}}}}": "components.a.targets.d.profile",
    "components: {a: {targets: {d: {address: x, profile: small, max_in_flight: no}}}}": (
        "components.a.targets.d.max_in_flight"
    ),
    "components: {a: {timeout: soon}}": "components.a.timeout",
    "components: {a: {timeout: -1}}": "components.a.timeout",
    "components: {a: {timeout: 25000m}}": "components.a.timeout",
    "components: {a: {aliases: b}}": "components.a.aliases",
    "components: {a: {command: [1]}}": "components.a.command[0]",
    "components: {a: {}, b: {aliases: [a]}}": "components.b",
    "profiles: {p: {cpu: 1}}": "profiles.p.memory",
    "profiles: {p: {cpu: [], memory: 1}}": "profiles.p.cpu",
}


@pytest.mark.parametrize(("text", "field"), _FAULTS.items())
def test_a_fault_is_named_by_its_path(text: str, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse_registry(text)
    assert field in [violation.field for violation in caught.value.violations]


def test_every_fault_is_reported_at_once_with_the_files_name() -> None:
    with pytest.raises(InvalidArgument, match=r"my\.yaml") as caught:
        parse_registry("components: {a: {timeout: soon, comand: []}, b: {}}", path="my.yaml")
    assert len(caught.value.violations) == 4


@pytest.mark.parametrize(("text", "said"), [("a: 1\na: 2", "line 2.*twice"), ("a: [", "line 1"), ("\x00", "not YAML")])
def test_what_is_not_yaml_is_refused_with_its_line(text: str, said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        parse_registry(text)
