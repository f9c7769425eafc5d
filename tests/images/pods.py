"""Rendered manifests as `podman kube play` takes them: what it lacks is left out, and nothing else is changed.

A workload becomes one Pod of its name, which is the name of its Service, so that pods find each other by it. Of what
podman has not, a claimed volume becomes one of the pod's own, a probe by gRPC the image's own health command, and named
ports in probes become numbers. Priorities, spreading and what a Service or a NetworkPolicy does are not there.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from tests.kubernetes.cluster import Document, of_kind

_WORKLOADS = ("Deployment", "StatefulSet")
_PROBES = ("startupProbe", "readinessProbe", "livenessProbe")
_HEALTH = {"exec": {"command": ["imageflow-health"]}, "periodSeconds": 5, "timeoutSeconds": 4, "failureThreshold": 6}


def pods_of(docs: Sequence[Document]) -> dict[str, list[dict[str, Any]]]:
    """By name, each pod behind the ConfigMaps that it uses."""
    configured = of_kind(docs, "ConfigMap")
    found: dict[str, list[dict[str, Any]]] = {}
    for each in docs:
        if each["kind"] in _WORKLOADS:
            pod = _pod(each)
            used = [dict(configured[name]) for name in sorted(_used(pod["spec"]))]
            found[each["metadata"]["name"]] = [*map(_without_namespace, used), pod]
    return found


def secret(name: str, **values: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}


def _pod(workload: Document) -> dict[str, Any]:
    template = copy.deepcopy(workload["spec"]["template"])
    spec = template["spec"]
    claimed = workload["spec"].get("volumeClaimTemplates", ())
    spec["volumes"] = [*spec["volumes"], *({"name": each["metadata"]["name"], "emptyDir": {}} for each in claimed)]
    for key in ("serviceAccountName", "automountServiceAccountToken", "priorityClassName", "enableServiceLinks"):
        spec.pop(key, None)
    for container in spec["containers"]:
        _rewrite(container)
    metadata = {"name": workload["metadata"]["name"], "labels": template["metadata"]["labels"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _rewrite(container: dict[str, Any]) -> None:
    numbers = {each["name"]: each["containerPort"] for each in container.pop("ports", ())}
    container.pop("lifecycle", None)
    for name in _PROBES:
        probe = container.pop(name, None)
        if name == "livenessProbe" and probe is not None:
            container[name] = dict(_HEALTH) if "grpc" in probe else _numbered(probe, numbers)


def _numbered(probe: Mapping[str, Any], numbers: Mapping[str, int]) -> dict[str, Any]:
    return {
        key: {**value, "port": numbers.get(value["port"], value["port"])} if isinstance(value, dict) else value
        for key, value in probe.items()
    }


def _used(spec: Mapping[str, Any]) -> set[str]:
    mounted = {each["configMap"]["name"] for each in spec["volumes"] if "configMap" in each}
    read = {
        source["configMapRef"]["name"] for container in spec["containers"] for source in container.get("envFrom", ())
    }
    return mounted | read


def _without_namespace(document: dict[str, Any]) -> dict[str, Any]:
    metadata = {key: value for key, value in document["metadata"].items() if key != "namespace"}
    return {**document, "metadata": metadata}
