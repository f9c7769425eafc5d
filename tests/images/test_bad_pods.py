"""Pods that lack what they need: each says in one line what is wrong, and in its status or its readiness too."""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from imageflow.v1.stored_image_pb2 import UploadImageRequest
from imageflow.v1.system_pb2 import GetReadinessRequest, GetReadinessResponse
from imageflow_common.rpc import LIVENESS
from tests.e2e import pictures
from tests.e2e.callers import MIB, Rpc, connect, grpc_refusal

from .containers import USER, Network, address_of, eventually, network, podman, ready, state_of
from .stand_ins import make_minio

pytestmark = pytest.mark.timeout(600)

SECONDS = 60.0
"""How long anything may take to be said: a start of 2 s, with much else on this machine."""
REGISTRY = "components:\n  resize: {targets: {default: {address: 'dns:///resize:9090', profile: small}}}\n"
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
KEYS = {"access-key": "imageflow", "secret-key": secrets.token_hex(16)}


@dataclass
class Site:
    """One network with a resize and a MinIO. `mounts` are folders and files that its containers may read."""

    net: Network
    mounts: Path
    started: int = 0

    def start(self, service: str, *, options: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> str:
        self.started += 1
        return self.net.run(service, replica=self.started, options=options, environment=environment, shared=False)

    def mounted(self, name: str, **files: str) -> str:
        """A folder with these files, as an option that mounts it at `/NAME`."""
        folder = self.mounts / f"{name}-{secrets.token_hex(4)}"
        folder.mkdir()
        for file, text in files.items():
            (folder / file).write_text(text)
        return f"--volume={folder}:/{name}"

    def ended(self, service: str, *, options: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> str:
        """What one says that cannot start: its only line, which is no traceback. Its status is not 0."""
        name = self.start(service, options=options, environment=environment)
        eventually(lambda: not state_of(name)["Running"], self.net.said, within=SECONDS)
        said = podman("logs", name).stderr
        assert state_of(name)["ExitCode"] not in (0, 137), said
        assert "Traceback" not in said, said
        return said


@pytest.fixture(scope="module")
def site(built: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with network(tmp_path_factory.mktemp("bad-pods")) as net:
        made = Site(net, net.folder / "mounts")
        made.mounts.mkdir()
        minio = f"{net.name}-minio"
        net.containers.append(minio)
        podman(
            *("run", "--detach", f"--name={minio}", f"--network={net.name}", "--network-alias=minio", "--pull=never"),
            *(f"--env=MINIO_ROOT_USER={KEYS['access-key']}", f"--env=MINIO_ROOT_PASSWORD={KEYS['secret-key']}"),
            *("--tmpfs=/data", make_minio(), "server", "/data"),
        )
        resize = made.start("resize")
        eventually(partial(net.serving, resize), net.said)
        yield made


def registered(site: Site, registry: str = REGISTRY) -> list[str]:
    return [site.mounted("registry", **{"registry.yaml": registry})]


NAMED = {"IMAGEFLOW_REGISTRY_FILE": "/registry/registry.yaml"}
ON_S3 = {
    "IMAGEFLOW_STORE_URL": "s3://imageflow",
    "IMAGEFLOW_S3_ENDPOINT": "http://minio:9000",
    "IMAGEFLOW_S3_CREATE_BUCKET": "true",
    "IMAGEFLOW_S3_CREDENTIALS_DIRECTORY": "/s3",
    "IMAGEFLOW_S3_START_SECONDS": "3",
}


def on_disk(path: str = "/data") -> dict[str, str]:
    return {**NAMED, "IMAGEFLOW_STORE_URL": f"file://{path}"}


@dataclass(frozen=True, slots=True)
class Reached:
    """An orchestrator, without a gateway before it."""

    rpc: Rpc
    site: Site

    @property
    def readiness(self) -> GetReadinessResponse:
        answer: GetReadinessResponse = self.rpc("SystemService/GetReadiness", GetReadinessRequest())
        return answer

    @property
    def degraded(self) -> list[str]:
        return list(self.readiness.degraded)

    def is_ready(self) -> bool:
        try:
            return bool(self.readiness.components)
        except grpc.RpcError:
            return False

    def says(self, word: str) -> None:
        """Waits until readiness has one fault, with this word in it; nothing else is wrong."""
        eventually(lambda: bool(self.degraded), self.site.net.said, within=SECONDS)
        [fault] = self.degraded
        assert word in fault
        assert list(self.readiness.components) == ["resize"]

    def recovers(self) -> None:
        eventually(lambda: not self.degraded, self.site.net.said, within=SECONDS)

    def upload(self, size: int) -> object:
        body = HttpBody(content_type="image/png", data=bytes(size))
        return self.rpc("ImageService/UploadImage", iter([UploadImageRequest(key="in/a.png", body=body)]))


@contextmanager
def reached(site: Site, container: str) -> Iterator[Reached]:
    """Once it is ready, with nothing wrong."""
    rpc = Rpc(f"{address_of(container)}:9090")
    made = Reached(rpc, site)
    eventually(made.is_ready, site.net.said, within=SECONDS)
    assert made.degraded == []
    yield made
    rpc.close()


def said_once(container: str, event: str, *words: str) -> None:
    [line] = [line for line in podman("logs", container).stderr.splitlines() if f'"{event}"' in line]
    assert all(word in line for word in words), line


def test_without_its_configmap_it_ends_and_says_which_file(site: Site) -> None:
    said = site.ended("orchestrator", options=["--tmpfs=/data:mode=1777"], environment=on_disk())

    assert said.splitlines() == ["orchestrator: [Errno 2] No such file or directory: '/registry/registry.yaml'"]


def test_without_its_secret_it_ends_and_says_which_key(site: Site) -> None:
    for mounts in ([], [site.mounted("s3", **{"secret-key": "x"})]):
        said = site.ended("orchestrator", options=[*registered(site), *mounts], environment=NAMED | ON_S3)

        assert said.splitlines() == [
            "orchestrator: IMAGEFLOW_S3_CREDENTIALS_DIRECTORY: access-key cannot be read",
        ]


@pytest.mark.parametrize(
    ("registry", "says"),
    [
        ("components: [", "registry.yaml"),
        ("", "registry.yaml"),
        ("components: {resize: {targets: {default: {address: ''}}}}", "address"),
    ],
)
def test_a_malformed_registry_ends_it_at_the_start_and_is_said(site: Site, registry: str, says: str) -> None:
    options = [*registered(site, registry), "--tmpfs=/data:mode=1777"]

    assert says in site.ended("orchestrator", options=options, environment=on_disk())


def test_a_registry_that_becomes_malformed_is_not_taken_over_and_readiness_says_so(site: Site) -> None:
    mount = registered(site)
    file = Path(mount[0].removeprefix("--volume=").partition(":")[0], "registry.yaml")
    name = site.start("orchestrator", options=[*mount, "--tmpfs=/data:mode=1777"], environment=on_disk())
    with reached(site, name) as orchestrator:
        file.write_text("components: [")
        orchestrator.says("the registry file was not taken over, the one before stays")
        said_once(name, "registry.refused")

        file.write_text(REGISTRY)
        orchestrator.recovers()


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        (KEYS | {"secret-key": "another"}, "SignatureDoesNotMatch"),
        (KEYS | {"access-key": "nobody"}, "InvalidAccessKeyId"),
    ],
)
def test_wrong_credentials_of_s3_end_it_and_none_of_them_is_shown(site: Site, keys: dict[str, str], says: str) -> None:
    options = [*registered(site), site.mounted("s3", **keys)]
    said = site.ended("orchestrator", options=options, environment=NAMED | ON_S3)

    assert said.splitlines()[-1] == f"orchestrator: the object store refuses us ({says})"
    assert not [key for key in keys.values() if key in said]


def test_an_s3_that_cannot_be_reached_is_waited_for_and_then_ends_it(site: Site) -> None:
    options = [*registered(site), site.mounted("s3", **KEYS)]
    away = NAMED | ON_S3 | {"IMAGEFLOW_S3_ENDPOINT": "http://minio:9"}

    said = site.ended("orchestrator", options=options, environment=away)
    assert said.splitlines()[-1] == "orchestrator: the object store cannot be reached"


def test_detect_without_a_model_does_not_serve_until_there_is_one(site: Site) -> None:
    mount = site.mounted("models")
    name = site.start("detect", options=[mount], environment={"IMAGEFLOW_MODELS_DIRECTORY": "/models"})
    folder = Path(mount.removeprefix("--volume=").partition(":")[0])
    with grpc.insecure_channel(f"{address_of(name)}:9090") as channel:

        def health(service: str = "") -> int:
            return int(HealthStub(channel).Check(HealthCheckRequest(service=service), wait_for_ready=True).status)

        assert health() == HealthCheckResponse.NOT_SERVING
        assert health(LIVENESS) == HealthCheckResponse.SERVING  # or it would be ended, again and again
        said_once(name, "component.not_serving", "there is no model in /models")

        shutil.copytree(Path(__file__).resolve().parents[2] / "models" / "coins", folder / "coins")
        eventually(lambda: health() == HealthCheckResponse.SERVING, site.net.said, within=SECONDS)


@contextmanager
def file_system(site: Site, options: str) -> Iterator[Path]:
    """One in memory, of our own making, which may be filled and changed under who uses it."""
    folder = site.mounts / f"volume-{secrets.token_hex(4)}"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=False).returncode:
        pytest.skip("needs to mount")
    os.chown(folder, USER, USER)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.parametrize(
    ("options", "says"),
    [("ro", "the object store refuses access"), ("size=64k,nr_inodes=2", "the object store is full")],
)
def test_a_store_that_cannot_be_written_to_at_the_start_ends_it(site: Site, options: str, says: str) -> None:
    with file_system(site, "size=64k") as folder:
        subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)
        mounts = [*registered(site), f"--volume={folder}:/data"]
        said = site.ended("orchestrator", options=mounts, environment=on_disk())

    assert said.splitlines() == [f"orchestrator: file:///data: {says}"]


def test_a_store_that_is_full_says_so_to_callers_and_in_readiness(site: Site) -> None:
    options = [*registered(site), "--tmpfs=/data:size=4m,mode=1777"]
    name = site.start("orchestrator", options=options, environment=on_disk())
    with reached(site, name) as orchestrator:
        refusal = grpc_refusal(partial(orchestrator.upload, 8 * MIB))
        assert (refusal.code, refusal.reason) == ("RESOURCE_EXHAUSTED", "STORAGE_FULL")
        orchestrator.says("the object store could not be written to: the object store is full")
        said_once(name, "store.fails", "STORAGE_FULL")

        orchestrator.upload(1024)
        assert orchestrator.degraded == []


def test_a_store_that_may_no_longer_be_written_to_says_so_in_readiness(site: Site) -> None:
    """As when somebody has changed who owns a volume. (A file system is not made read-only under who writes to it.)"""
    with file_system(site, "size=16m") as folder:
        options = [*registered(site), f"--volume={folder}:/data"]
        name = site.start("orchestrator", options=options, environment=on_disk())
        with reached(site, name) as orchestrator:
            for change in (["chown", "-R", "0:0"], ["chmod", "-R", "a+rX,a-w"]):
                subprocess.run([*change, folder], check=True)
            assert grpc_refusal(partial(orchestrator.upload, 1024)).code == "PERMISSION_DENIED"
            orchestrator.says("the object store could not be written to: the object store refuses access")
            said_once(name, "store.fails", "PERMISSION_DENIED")


@dataclass(frozen=True, slots=True)
class Clock:
    """The clock of a container that has these options and variables."""

    file: Path

    @property
    def options(self) -> list[str]:
        return [f"--volume={FAKETIME}:/libfaketime.so:ro", f"--volume={self.file}:/clock:ro"]

    @property
    def variables(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": "/libfaketime.so",
            "FAKETIME_TIMESTAMP_FILE": "/clock",
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DISABLE_SHM": "1",
        }

    def set(self, ahead: str) -> None:
        self.file.write_text(f"{ahead}\n")


@pytest.fixture
def clock(site: Site) -> Clock:
    if not FAKETIME.exists() and not os.geteuid():
        subprocess.run(["apt-get", "install", "-qq", "--no-install-recommends", "libfaketime"], check=False)
    if not FAKETIME.exists():
        pytest.skip("needs libfaketime")
    made = Clock(site.mounts / "clock")
    made.set("+0")
    return made


def test_a_clock_that_is_not_that_of_s3_ends_it_at_the_start(site: Site, clock: Clock) -> None:
    clock.set("+1d")
    options = [*clock.options, *registered(site), site.mounted("s3", **KEYS)]
    said = site.ended("orchestrator", options=options, environment=NAMED | ON_S3 | clock.variables)

    assert said.splitlines()[-1] == "orchestrator: the object store's clock is not ours"


def test_a_clock_that_jumps_is_said_in_readiness_while_it_is_wrong(site: Site, clock: Clock) -> None:
    options = [*clock.options, *registered(site), site.mounted("s3", **KEYS)]
    name = site.start("orchestrator", options=options, environment=NAMED | ON_S3 | clock.variables)
    with reached(site, name) as orchestrator:
        clock.set("+1d")
        eventually(lambda: bool(orchestrator.degraded), site.net.said, within=SECONDS)
        assert all("the object store's clock is not ours" in fault for fault in orchestrator.degraded)
        assert list(orchestrator.readiness.components) == ["resize"]

        clock.set("+0")
        orchestrator.recovers()


def test_a_volume_in_memory_that_is_missing_ends_it_and_is_said(site: Site) -> None:
    said = site.ended("resize", environment={"IMAGEFLOW_SHARED_DIRECTORY": "/shared"})

    assert len(said.splitlines()) == 1
    assert "/shared" in said


def test_on_a_node_without_dev_shm_images_travel_by_message(built: None, tmp_path: Path) -> None:
    with network(tmp_path) as net:
        bare = ["--ipc=none"]
        names = [net.run(each, options=bare, shared=False) for each in ("resize", "detect", "filter")]
        names.append(net.run("orchestrator", options=[*bare, "--tmpfs=/data:mode=1777"], shared=False,
                             environment={"IMAGEFLOW_STORE_URL": "file:///data"}))  # fmt: skip
        for name in names:
            assert podman("exec", name, "test", "-e", "/dev/shm", check=False).returncode == 1
            eventually(partial(net.serving, name), net.said, within=SECONDS)
        gateway = net.run("gateway", shared=False, options=["--publish=127.0.0.1::8080"])
        port = int(podman("port", gateway, "8080").stdout.split(":")[-1])
        for callers in connect(f"http://127.0.0.1:{port}", f"127.0.0.1:{port}"):
            eventually(partial(ready, callers), net.said, within=SECONDS)
            assert callers.http.get("/readyz").json()["degraded"] == []
            for component, query in (("resize", ""), ("filter", ""), ("detect", "modelName=coins")):
                answer = callers.process_http(
                    pictures.coins(), component=component, **({"set": query} if query else {})
                )
                assert answer.status_code == 200, (component, answer.text, net.said())
