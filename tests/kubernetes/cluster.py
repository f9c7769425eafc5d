"""kubectl, against the API server of the tests."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from backends.kubernetes import Kubernetes, kubectl
from backends.kustomize import render

K8S = Path(__file__).resolve().parents[2] / "k8s"
OVERLAYS = ("dev", "production")
CRDS = Path(__file__).with_name("crds.yaml")
Document = Mapping[str, Any]


class Refused(Exception):
    """The API server did not take it; the message is what kubectl said."""


@cache
def rendered(overlay: str) -> str:
    return render(K8S / "overlays" / overlay)


def documents(overlay: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(rendered(overlay)))


def with_components(folder: Path, *components: str) -> list[dict[str, Any]]:
    """The base with components, rendered from a kustomization in `folder`."""
    there = Path(*[".."] * (len(folder.parts) - 1)) / K8S.relative_to("/")
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [str(there / "base")],
        "components": [str(there / "components" / name) for name in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return list(yaml.safe_load_all(render(folder)))


def of_kind(docs: Sequence[Document], kind: str) -> dict[str, Document]:
    return {each["metadata"]["name"]: each for each in docs if each["kind"] == kind}


def pod_templates(docs: Sequence[Document]) -> dict[str, Document]:
    """By the name of their workload, with the workload's namespace in `metadata`."""
    workloads = [each for each in docs if each["kind"] in ("Deployment", "StatefulSet", "DaemonSet")]
    found: dict[str, Document] = {}
    for each in workloads:
        template = each["spec"]["template"]
        claims = [claim["metadata"]["name"] for claim in each["spec"].get("volumeClaimTemplates", ())]
        metadata = {**template["metadata"], "namespace": each["metadata"]["namespace"]}
        claimed = [{"name": name, "persistentVolumeClaim": {"claimName": f"{name}-0"}} for name in claims]
        spec = {**template["spec"], "volumes": [*template["spec"].get("volumes", ()), *claimed]}
        found[each["metadata"]["name"]] = {"metadata": metadata, "spec": spec}
    return found


class Cluster:
    def __init__(self, server: Kubernetes) -> None:
        self._kubeconfig = server.kubeconfig

    def run(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(kubectl()), f"--kubeconfig={self._kubeconfig}", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def ask(self, *arguments: str) -> Any:
        return json.loads(self._done(self.run(*arguments, "--output=json")))

    def apply(self, manifests: str | Sequence[Document], *options: str) -> str:
        """On the server's side, strictly. Raises Refused."""
        text = manifests if isinstance(manifests, str) else yaml.safe_dump_all(manifests)
        command = ("apply", "--server-side", "--validate=strict", *options, "--filename=-")
        done = self.run(*command, stdin=text)
        return self._done(done) + done.stderr

    def create(self, document: Document, *options: str) -> dict[str, Any]:
        """As it is stored, after admission. Raises Refused."""
        done = self.run(
            "create", "--validate=strict", "--output=json", *options, "--filename=-", stdin=json.dumps(document)
        )
        made: dict[str, Any] = json.loads(self._done(done))
        return {**made, "warnings": done.stderr}

    @staticmethod
    def _done(done: subprocess.CompletedProcess[str]) -> str:
        if done.returncode:
            raise Refused(done.stderr)
        return done.stdout
