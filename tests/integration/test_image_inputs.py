"""What the images install is what the packages need, in the versions that are tested; and what is built into which."""

from __future__ import annotations

import re

import pytest

from tools import images, locks

_PIN = re.compile(r"^([a-z0-9-]+)==(\S+) \\((?:\n    --hash=sha256:[0-9a-f]{64}(?: \\)?)+)$", re.MULTILINE)


def pins(name: str) -> dict[str, str]:
    text = (locks.TOP / "images" / f"{name}.txt").read_text()
    found = {match[1]: match[2] for match in _PIN.finditer(text)}
    assert len(found) == text.count("=="), "a pin without hashes"
    return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("service", images.SERVICES)
def test_an_image_has_what_its_service_declares_in_the_versions_tested(service: str) -> None:
    constraints = dict(
        line.split("==") for line in (locks.TOP / "constraints.txt").read_text().splitlines() if "==" in line
    )
    tested = {canonical(name): version for name, version in constraints.items()}
    locked = pins(service)

    for requirement in locks.requirements(service):
        assert canonical(re.split(r"[\[<>=;]", requirement)[0]) in locked, "run tools/locks.py"
    assert {name: tested.get(name, version) for name, version in locked.items()} == locked, "run tools/locks.py"


def test_what_builds_the_images_is_locked_too() -> None:
    assert {"pip", "setuptools", "cffi"} <= set(pins("build"))


@pytest.mark.parametrize(
    ("file", "built"),
    [
        ("apps/resize/imageflow_resize/resize.py", ["resize"]),
        ("libs/common/imageflow_common/serve.py", [*images.SERVICES]),
        ("libs/common/imageflow/v1/descriptors.binpb", [*images.SERVICES, images.GATEWAY]),
        ("images/filter.txt", ["filter"]),
        ("gateway/envoy.yaml", [images.GATEWAY]),
        ("models/coins/manifest.yaml", ["detect"]),
        ("apps/cli/imageflow_cli/up.py", []),
        ("README.md", []),
    ],
)
def test_a_file_that_changes_is_built_into_its_images_alone(file: str, built: list[str]) -> None:
    assert images.affected([file]) == built
