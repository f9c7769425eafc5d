"""What checkov has against the manifests is what is written here, with the reason."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from backends.cache import finish, finished, installing

from .cluster import OVERLAYS, rendered

VERSION = "3.3.30"
pytestmark = [pytest.mark.usefixtures("rendering"), pytest.mark.timeout(900)]

EVERYWHERE = {
    "CKV_K8S_15": "a version is pulled once: its tag, better its digest, is never pushed again",
    "CKV_K8S_43": "the digest is known to who publishes the images; overlays name it",
}
EXCEPTIONS = {
    ("CKV_K8S_22", "StatefulSet.image-processing.kafka"): "its image writes its configuration when it starts",
    ("CKV_K8S_40", "StatefulSet.image-processing.kafka"): "the user that its image is made for",
    ("CKV_K8S_35", "StatefulSet.image-processing.minio"): "MinIO takes its first user from there",
    ("CKV_K8S_35", "Deployment.image-processing.orchestrator"): "Kafka's login; that of S3 is a file",
    ("CKV_K8S_38", "Deployment.monitoring.otel-collector"): "it asks the API server about the cluster",
    ("CKV_K8S_38", "DaemonSet.monitoring-nodes.node-logs"): "it asks the API server which pod a log is of",
    ("CKV_K8S_23", "DaemonSet.monitoring-nodes.node-logs"): "the nodes' log files are root's",
    ("CKV_K8S_40", "DaemonSet.monitoring-nodes.node-logs"): "the nodes' log files are root's",
}


@pytest.fixture(scope="session")
def checkov() -> Path:
    """In an environment of its own: it brings a hundred packages."""
    with installing("checkov") as folder:
        if not finished(folder, VERSION):
            subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
            command = [folder / "venv" / "bin" / "pip", "install", "--quiet", f"checkov=={VERSION}"]
            done = subprocess.run(command, capture_output=True, text=True, timeout=800, check=False)
            if done.returncode:
                pytest.skip(f"needs checkov: {done.stderr[-500:]}")
            finish(folder, VERSION)
        return folder / "venv" / "bin" / "checkov"


def failed(checkov: Path, manifests: Path) -> set[tuple[str, str]]:
    options = ("--framework=kubernetes", "--skip-download", "--compact", "--quiet", "--output=json")
    done = subprocess.run([checkov, *options, f"--file={manifests}"], capture_output=True, text=True, check=False)
    said = json.loads(done.stdout)
    assert said["summary"]["parsing_errors"] == 0
    assert said["summary"]["passed"] > 300
    return {(each["check_id"], each["resource"]) for each in said["results"]["failed_checks"]}


def test_nothing_else_is_held_against_them(checkov: Path, tmp_path: Path) -> None:
    found: set[tuple[str, str]] = set()
    for overlay in OVERLAYS:
        (tmp_path / f"{overlay}.yaml").write_text(rendered(overlay))
        found |= failed(checkov, tmp_path / f"{overlay}.yaml")
    assert {each for each in found if each[0] not in EVERYWHERE} == set(EXCEPTIONS)


def test_a_container_that_may_write_anywhere_is_found(checkov: Path, tmp_path: Path) -> None:
    worse = rendered("dev").replace("readOnlyRootFilesystem: true", "readOnlyRootFilesystem: false")
    (tmp_path / "worse.yaml").write_text(worse)
    assert ("CKV_K8S_22", "Deployment.image-processing.resize") in failed(checkov, tmp_path / "worse.yaml")
