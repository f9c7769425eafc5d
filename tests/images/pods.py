"""Rendered manifests as `podman kube play` takes them: what it lacks is left out, and nothing else is changed.

A workload becomes one Pod of its name, which is the name of its Service, so that pods find each other by it. Of what
podman has not, a claimed volume becomes one of the pod's own, a probe by gRPC the image's own health command, and named
ports in probes become numbers. A Secret is two of podman's, which wants variables from them in another form than files;
it knows no namespaces. Priorities, spreading and what a Service or a NetworkPolicy does are not there.
"""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Mapping, Sequence
from typing import Any

from tests.kubernetes.cluster import Document, of_kind

_FOR_VARIABLES = "-variables"
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


def secrets_of(name: str, values: Mapping[str, str]) -> dict[str, str]:
    """What podman's secrets hold, by their names: for files, and for variables."""
    encoded = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    # Into a file podman 4.3 writes what stands under `data` as it is.
    whole = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": dict(values)}
    return {name: json.dumps(whole), f"{name}{_FOR_VARIABLES}": json.dumps(encoded)}


def _pod(workload: Document) -> dict[str, Any]:
    template = copy.deepcopy(workload["spec"]["template"])
    spec = template["spec"]
    claimed = workload["spec"].get("volumeClaimTemplates", ())
    spec["volumes"] = [*spec["volumes"], *({"name": each["metadata"]["name"], "emptyDir": {}} for each in claimed)]
    for key in ("serviceAccountName", "automountServiceAccountToken", "priorityClassName", "enableServiceLinks"):
        spec.pop(key, None)
    own = workload["metadata"]["name"]
    for volume in spec["volumes"]:
        volume["name"] = f"{own}-{volume['name']}"  # pods share a volume of podman's by its name
        if "secret" in volume:
            volume["secret"]["optional"] = False  # podman 4.3 falls over one that does not say
    for container in spec["containers"]:
        for mount in container.get("volumeMounts", ()):
            mount["name"] = f"{own}-{mount['name']}"
    for container in spec["containers"]:
        _rewrite(container)
    metadata = {"name": workload["metadata"]["name"], "labels": template["metadata"]["labels"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def _rewrite(container: dict[str, Any]) -> None:
    numbers = {each["name"]: each["containerPort"] for each in container.pop("ports", ())}
    container.pop("lifecycle", None)
    for each in container.get("env", ()):
        source = each.get("valueFrom", {})
        if "secretKeyRef" in source:
            source["secretKeyRef"]["name"] += _FOR_VARIABLES
        if source.get("fieldRef") == {"fieldPath": "metadata.namespace"}:
            del each["valueFrom"]
            each["value"] = "image-processing"
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
