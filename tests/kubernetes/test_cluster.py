"""R70 R71 R73: a real API server takes the manifests, admits their pods, counts what they ask for, and lets nobody do
more than is written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .cluster import (
    CRDS,
    K8S,
    OVERLAYS,
    Cluster,
    Document,
    Refused,
    documents,
    pod_templates,
    rendered,
    with_components,
)

NAMESPACE = "image-processing"
pytestmark = pytest.mark.timeout(3600)  # it may have to be built


@pytest.fixture(scope="module")
def prepared(cluster: Cluster) -> Cluster:
    """With the custom resources that ours are of."""
    cluster.apply(CRDS.read_text())
    assert cluster.run("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s").returncode == 0
    return cluster


@pytest.fixture(scope="module", params=OVERLAYS)
def applied(prepared: Cluster, request: pytest.FixtureRequest) -> Iterator[tuple[Cluster, str]]:
    apply_namespaces(prepared, documents(request.param))
    prepared.apply(rendered(request.param))
    yield prepared, request.param
    workloads = "deployments,statefulsets,daemonsets,hpa,configmaps,networkpolicies,resourcequotas,limitranges"
    for namespace in (NAMESPACE, "monitoring", "monitoring-nodes"):
        prepared.run("delete", workloads, "--all", f"--namespace={namespace}", "--wait=false")


def apply_namespaces(cluster: Cluster, docs: list[dict[str, Any]]) -> None:
    """First, and with the account that a controller gives to each: a pod is refused without."""
    spaces = [each for each in docs if each["kind"] == "Namespace"]
    cluster.apply(spaces)
    for each in spaces:
        name = each["metadata"]["name"]
        done = cluster.run("wait", "--for=create", "serviceaccount/default", f"--namespace={name}", "--timeout=30s")
        assert done.returncode == 0, done.stderr


def pod(name: str, template: Document) -> dict[str, Any]:
    metadata = {**template["metadata"], "name": name}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}


def bare_pod(name: str, **resources: Any) -> dict[str, Any]:
    spec = {
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [
            {
                "name": "any",
                "image": "any",
                "resources": resources,
                "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
            }
        ],
    }
    return pod(name, {"metadata": {"namespace": NAMESPACE}, "spec": spec})


def test_applying_twice_changes_nothing(applied: tuple[Cluster, str]) -> None:
    cluster, overlay = applied
    kinds = "deployments,statefulsets,daemonsets,services,configmaps,networkpolicies,serviceaccounts,roles,hpa,pdb"

    def versions() -> dict[str, str]:
        items = cluster.ask("get", kinds, "--all-namespaces")["items"]
        return {f"{each['kind']}/{each['metadata']['name']}": each["metadata"].get("generation", 0) for each in items}

    def ours() -> list[Any]:
        items = cluster.ask("get", kinds, "--all-namespaces", "--show-managed-fields")["items"]
        return [
            entry
            for each in items
            for entry in each["metadata"].get("managedFields", ())
            if (entry["manager"], entry["operation"]) == ("kubectl", "Apply")
        ]

    before, applied_before = versions(), ours()
    assert len(applied_before) > 20
    cluster.apply(rendered(overlay))
    assert (versions(), ours()) == (before, applied_before)
    assert cluster.run("diff", "--server-side", "--filename=-", stdin=rendered(overlay)).stdout == ""


def test_every_pod_is_admitted_without_a_warning(applied: tuple[Cluster, str]) -> None:
    """Under Pod Security's `restricted`, but for the one that reads the nodes' logs."""
    cluster, overlay = applied
    templates = pod_templates(documents(overlay))
    assert len(templates) == {"dev": 7, "production": 8}[overlay]
    for name, template in templates.items():
        made = cluster.create(pod(f"tried-{name}", template), "--dry-run=server")
        assert made["warnings"] == "", name


@pytest.mark.parametrize("components", [("triton", "gpu", "minio", "kafka"), ("colocated", "minio", "kafka")])
def test_pods_of_the_other_components_are_admitted_too(
    prepared: Cluster, components: tuple[str, ...], tmp_path: Path
) -> None:
    docs = with_components(tmp_path, *components)
    apply_namespaces(prepared, docs)
    prepared.apply(docs, "--dry-run=server", "--force-conflicts")
    for name, template in pod_templates(docs).items():
        prepared.apply(
            [each for each in docs if each["kind"] in ("PriorityClass", "ServiceAccount")], "--force-conflicts"
        )
        assert prepared.create(pod(f"tried-{name}", template), "--dry-run=server")["warnings"] == "", name


def test_a_pod_that_may_do_more_is_refused(applied: tuple[Cluster, str]) -> None:
    cluster, _ = applied
    for key, value in (("allowPrivilegeEscalation", True), ("runAsUser", 0), ("capabilities", {"add": ["NET_ADMIN"]})):
        more = bare_pod("more")
        more["spec"]["containers"][0]["securityContext"][key] = value
        with pytest.raises(Refused, match="violates PodSecurity"):
            cluster.create(more, "--dry-run=server")


def test_who_asks_for_nothing_gets_the_defaults_and_nobody_gets_more_than_the_most(
    applied: tuple[Cluster, str],
) -> None:
    cluster, _ = applied
    given = cluster.create(bare_pod("nothing-asked"), "--dry-run=server")["spec"]["containers"][0]["resources"]
    assert given == {
        "limits": {"cpu": "500m", "memory": "1Gi", "nvidia.com/gpu": "0"},
        "requests": {"cpu": "100m", "memory": "256Mi", "nvidia.com/gpu": "0"},
    }
    for limits, said in (
        ({"cpu": "5"}, "maximum cpu usage per Container is 4"),
        ({"memory": "9Gi"}, "maximum memory usage per Container is 8Gi"),
        ({"cpu": "10m"}, "minimum cpu usage per Container is 50m"),
        ({"nvidia.com/gpu": "3"}, "maximum nvidia.com/gpu usage per Container is 2"),
    ):
        with pytest.raises(Refused, match=re.escape(said)):
            cluster.create(bare_pod("too-much", limits=limits, requests=limits), "--dry-run=server")


def test_one_pod_more_than_the_quota_has_room_for_is_refused(applied: tuple[Cluster, str]) -> None:
    cluster, overlay = applied
    wait = ("wait", "--for=jsonpath={.status.hard}", "resourcequota/all", f"--namespace={NAMESPACE}", "--timeout=30s")
    assert cluster.run(*wait).returncode == 0
    room = {"dev": 10, "production": 20}[overlay]
    made: list[str] = []

    def fill() -> None:
        for number in range(room // 2 + 1):
            cluster.create(bare_pod(f"filling-{number}", requests={"cpu": "2"}, limits={"cpu": "2"}))
            made.append(f"filling-{number}")

    try:
        with pytest.raises(Refused, match=f"exceeded quota: all.*requests.cpu={room}"):
            fill()
        used = cluster.ask("get", "resourcequota/all", f"--namespace={NAMESPACE}")["status"]["used"]["requests.cpu"]
        assert room - 2 < cores(used) <= room
    finally:
        cluster.run("delete", "pod", *made, f"--namespace={NAMESPACE}", "--force", "--grace-period=0")


def test_what_all_replicas_ask_for_fits_the_quota() -> None:
    """Three of each, as many as the autoscalers make of them, and one more of one of them during its update."""
    for overlay, replicas in (("dev", 1), ("production", 3)):
        cpu = memory = largest = 0.0
        for template in pod_templates(documents(overlay)).values():
            if template["metadata"]["namespace"] == NAMESPACE:
                asked = template["spec"]["containers"][0]["resources"]["requests"]
                cpu += replicas * cores(asked["cpu"])
                memory += replicas * mebibytes(asked["memory"])
                largest = max(largest, mebibytes(asked["memory"]))
        [quota] = [each for each in documents(overlay) if each["kind"] == "ResourceQuota"]
        assert cpu <= float(quota["spec"]["hard"]["requests.cpu"]), overlay
        assert memory + largest <= mebibytes(quota["spec"]["hard"]["requests.memory"]), overlay


def cores(text: str) -> float:
    return float(text.removesuffix("m")) / 1_000 if text.endswith("m") else float(text)


def mebibytes(text: str) -> float:
    return float(text[:-2]) * {"Mi": 1, "Gi": 1024}[text[-2:]]


READ = ("get", "list", "watch")
CAN: dict[str, set[str]] = {
    "image-processing/image-processing-sa": {
        "get configmaps [component-registry]",
        "watch configmaps [component-registry]",
    },
    "image-processing/gateway-sa": set(),
    "image-processing/minio-sa": set(),
    "image-processing/kafka-sa": set(),
    "monitoring/otel-collector": {
        f"{verb} {resource}"
        for verb in READ
        for resource in (
            *("events", "namespaces", "namespaces/status", "nodes", "nodes/spec", "pods", "pods/status", "services"),
            *(
                "replicationcontrollers",
                "replicationcontrollers/status",
                "resourcequotas",
                "jobs.batch",
                "cronjobs.batch",
            ),
            *("daemonsets.apps", "deployments.apps", "replicasets.apps", "statefulsets.apps"),
            "horizontalpodautoscalers.autoscaling",
        )
    },
    "monitoring/otel-sampler": set(),
    "monitoring-nodes/node-logs": {
        f"{verb} {resource}" for verb in READ for resource in ("namespaces", "pods", "replicasets.apps")
    },
}
"""All that each account can do, beyond what anybody can."""


def test_accounts_can_do_what_is_written_here_and_nothing_else(applied: tuple[Cluster, str]) -> None:
    cluster, overlay = applied
    accounts = {
        f"{each['metadata']['namespace']}/{each['metadata']['name']}"
        for each in documents(overlay)
        if each["kind"] == "ServiceAccount"
    }
    assert accounts <= set(CAN)
    for account in accounts:
        namespace, name = account.split("/")
        own = allowed(cluster, namespace, name) - allowed(cluster, namespace, "nobody-in-particular")
        assert own == CAN[account], account


def allowed(cluster: Cluster, namespace: str, name: str) -> set[str]:
    """As `kubectl auth can-i --list` has it: `verb resource [names]`."""
    done = cluster.run(
        *("auth", "can-i", "--list", "--no-headers", f"--namespace={namespace}"),
        *(f"--as=system:serviceaccount:{namespace}:{name}", "--as-group=system:authenticated"),
    )
    assert done.returncode == 0, done.stderr
    found: set[str] = set()
    for line in done.stdout.splitlines():
        columns = re.fullmatch(r"(?:([^\[\s]\S*)\s+)?\[(.*?)\]\s+\[(.*?)\]\s+\[(.*?)\]", line.strip())
        assert columns is not None, line
        resource, urls, names, verbs = columns.groups()
        found |= {f"{verb} {resource or urls}{f' [{names}]' if names else ''}" for verb in verbs.split()}
    return found


def test_no_secret_can_be_read_and_no_pod_has_a_token_that_needs_none(applied: tuple[Cluster, str]) -> None:
    cluster, overlay = applied
    for account in CAN:
        namespace, name = account.split("/")
        for verb in ("get", "list", "watch", "create"):
            asked = ("auth", "can-i", verb, "secrets", f"--namespace={NAMESPACE}")
            done = cluster.run(*asked, f"--as=system:serviceaccount:{namespace}:{name}")
            assert done.stdout.strip() == "no", (account, verb)
    for name, template in pod_templates(documents(overlay)).items():
        needs = name in ("otel-collector", "node-logs")
        assert template["spec"]["automountServiceAccountToken"] is needs, name


def test_no_value_of_a_secret_is_written_anywhere() -> None:
    for overlay in OVERLAYS:
        assert [each for each in documents(overlay) if each["kind"] == "Secret"] == []


def test_the_application_of_argo_is_taken(prepared: Cluster) -> None:
    """R74"""
    application = yaml.safe_load((K8S / "argocd" / "application.yaml").read_text())
    assert application["spec"]["syncPolicy"]["automated"] == {"prune": True, "selfHeal": True}
    assert "CreateNamespace=true" in application["spec"]["syncPolicy"]["syncOptions"]
    prepared.run("create", "namespace", "argocd")
    prepared.apply([application])
    misspelt = {**application, "spec": {**application["spec"], "sources": []}}
    with pytest.raises(Refused, match="sources"):
        prepared.apply([misspelt])


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("Deployment", "replica", 2),
        ("ServiceMonitor", "endpoint", []),
        ("PrometheusRule", "group", []),
        ("ExternalSecret", "refresh", "5m"),
        ("HorizontalPodAutoscaler", "maxReplica", 2),
        ("NetworkPolicy", "egres", []),
    ],
)
def test_a_wrong_key_is_refused_with_its_name(prepared: Cluster, kind: str, field: str, value: object) -> None:
    docs = documents("production")
    apply_namespaces(prepared, docs)
    document = next(each for each in docs if each["kind"] == kind)
    with pytest.raises(Refused, match=field):
        prepared.apply([{**document, "spec": {**document["spec"], field: value}}])
