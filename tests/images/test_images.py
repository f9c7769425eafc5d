"""What is in an image, and what is not."""

from __future__ import annotations

import json

import pytest

from tools import images

from .containers import image_of, podman

pytestmark = [pytest.mark.timeout(900), pytest.mark.usefixtures("built")]

each_service = pytest.mark.parametrize("service", images.SERVICES)


def in_image(service: str, *command: str) -> tuple[int, str]:
    """A command in a container with no network, its status and all that it said."""
    confined = ("--rm", "--network=none", "--read-only", "--cap-drop=ALL", "--pull=never", f"--entrypoint={command[0]}")
    done = podman("run", *confined, image_of(service), *command[1:], check=False)
    return done.returncode, done.stdout + done.stderr


@each_service
def test_it_says_its_version(service: str) -> None:
    status, said = in_image(service, "serve", "--version")

    assert status == 0
    assert said.startswith(service)


@each_service
def test_it_runs_as_nobody_in_particular_and_cannot_write(service: str) -> None:
    _, said = in_image(service, "sh", "-c", "id -u; touch /opt/imageflow/x; touch /x")

    assert said.startswith("10001\n")
    assert said.count("Read-only file system") == 2


@each_service
def test_nothing_is_left_to_build_or_install_with(service: str) -> None:
    program = (
        "import importlib.util as u; print([name for name in ('pip', 'setuptools', 'ensurepip') if u.find_spec(name)])"
    )
    _, modules = in_image(service, "python", "-c", program)
    status, found = in_image(service, "sh", "-c", "command -v pip pip3 gcc cc make")

    assert modules.startswith("[]"), modules
    assert status != 0, found


@each_service
def test_every_compiled_module_loads_though_it_was_stripped(service: str) -> None:
    program = """
import ctypes, pathlib, sysconfig
files = sorted(pathlib.Path(sysconfig.get_path("purelib")).rglob("*.so"))
for file in files:
    ctypes.PyDLL(str(file))
print(len(files), "loaded")
"""
    status, said = in_image(service, "python", "-c", program)

    assert status == 0, said
    assert int(said.split()[0]) > 20, said


@each_service
def test_it_is_labelled_and_asks_for_its_health(service: str) -> None:
    [inspected] = json.loads(podman("image", "inspect", image_of(service)).stdout)
    labels = inspected["Labels"]

    assert labels["org.opencontainers.image.title"] == f"imageflow/{service}"
    assert labels["org.opencontainers.image.version"] == images.version()
    assert len(labels["org.opencontainers.image.revision"]) == 40
    assert inspected["User"] == "10001:10001"
    assert inspected["Healthcheck"]["Test"] == ["CMD", "imageflow-health"]


@pytest.mark.parametrize("service", ["orchestrator", "resize"])
def test_two_builds_give_the_same_layers(service: str) -> None:
    layers = []
    for number in (1, 2):
        image = images.build(service, tag=f"again-{number}", cached=False)
        [inspected] = json.loads(podman("image", "inspect", image).stdout)
        layers.append(inspected["RootFS"]["Layers"])
        podman("rmi", image)

    assert layers[0] == layers[1]


@pytest.mark.parametrize(
    ("service", "variable", "says"),
    [
        ("resize", "IMAGEFLOW_PORT=eighty", "IMAGEFLOW_PORT: "),
        ("resize", "IMAGEFLOW_SHARED_DIRECTORY=/nowhere", "/nowhere"),
        ("orchestrator", "IMAGEFLOW_STORE_URL=file:///read-only", "/read-only"),
        ("orchestrator", "IMAGEFLOW_REGISTRY_FILE=/nowhere.yaml", "/nowhere.yaml"),
    ],
)
def test_what_cannot_work_is_said_in_a_line(service: str, variable: str, says: str) -> None:
    done = podman(
        *("run", "--rm", "--network=none", "--read-only", "--cap-drop=ALL", "--pull=never", f"--env={variable}"),
        image_of(service),
        check=False,
    )

    assert done.returncode not in (0, 137)
    assert says in done.stderr
    assert "Traceback" not in done.stderr
