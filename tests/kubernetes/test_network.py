"""R72: who may talk to whom, computed from the policies, is the table of docs/deploy.md."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from .cluster import OVERLAYS, documents, of_kind, pod_templates

DEPLOY = Path(__file__).resolve().parents[2] / "docs" / "deploy.md"
ANYBODY = "anybody"
pytestmark = [pytest.mark.usefixtures("rendering"), pytest.mark.timeout(600)]  # it may have to be built

Way = tuple[str, str, str]
"""From, to, port."""


def expected(overlay: str) -> set[Way]:
    section = DEPLOY.read_text().split(f"<!-- network: {overlay} -->")[1].split("<!-- end -->")[0]
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| ([^|]+) \|$", section, re.M)
    return {(source, target, port.strip()) for source, target, ports in rows for port in ports.split(",")}


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_policies_allow_what_is_documented_and_no_more(overlay: str) -> None:
    assert ways(documents(overlay)) == expected(overlay)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_nothing_is_allowed_by_default(overlay: str) -> None:
    default = of_kind(documents(overlay), "NetworkPolicy")["default-deny"]["spec"]
    assert default == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def ways(docs: list[dict[str, Any]]) -> set[Way]:
    """From a pod to a pod where both ends allow it; from or to what is not a pod of ours where our end does."""
    pods = {
        name: (template["metadata"]["namespace"], template["metadata"]["labels"])
        for name, template in pod_templates(docs).items()
        if template["metadata"]["namespace"] != "monitoring-nodes"
    }
    policies = list(of_kind(docs, "NetworkPolicy").values())
    outwards = {(name, *way) for name, pod in pods.items() for way in _allowed(policies, pod, pods, "egress", "to")}
    inwards = {(name, *way) for name, pod in pods.items() for way in _allowed(policies, pod, pods, "ingress", "from")}
    restricted = {
        kind: {name for name, pod in pods.items() if any(_applies(each, pod, kind) for each in policies)}
        for kind in ("Ingress", "Egress")
    }
    found: set[Way] = set()
    for source, target, port in outwards:
        if target not in pods or target not in restricted["Ingress"] or (target, source, port) in inwards:
            found.add((source, target, port))
    for target, source, port in inwards:
        if source not in pods or source not in restricted["Egress"]:
            found.add((source, target, port))
    return found


def _applies(policy: Mapping[str, Any], pod: tuple[str, Mapping[str, str]], kind: str) -> bool:
    namespace, labels = pod
    spec = policy["spec"]
    return (
        policy["metadata"]["namespace"] == namespace
        and kind in spec["policyTypes"]
        and _selects(spec["podSelector"], labels)
    )


def _allowed(
    policies: list[Any],
    pod: tuple[str, Mapping[str, str]],
    pods: Mapping[str, tuple[str, Mapping[str, str]]],
    direction: str,
    ends: str,
) -> Iterator[tuple[str, str]]:
    for policy in policies:
        if _applies(policy, pod, direction.capitalize()):
            for rule in policy["spec"].get(direction, ()):
                ports = [f"{each['port']}/{each['protocol']}" for each in rule["ports"]]
                for end in _ends(rule.get(ends), pod[0], pods):
                    yield from ((end, port) for port in ports)


def _ends(peers: Any, namespace: str, pods: Mapping[str, tuple[str, Mapping[str, str]]]) -> Iterator[str]:
    if peers is None:
        yield ANYBODY
    for peer in peers or ():
        if "ipBlock" in peer:
            yield peer["ipBlock"]["cidr"]
            continue
        space = peer.get("namespaceSelector", {}).get("matchLabels", {}).get("kubernetes.io/metadata.name", namespace)
        selector = peer.get("podSelector", {})
        known = {name for name, (where, labels) in pods.items() if where == space and _selects(selector, labels)}
        yield from known
        if not known or not selector:
            yield f"{space}/{','.join(selector.get('matchLabels', {}).values()) or '*'}"


def _selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    exact = all(labels.get(key) == value for key, value in selector.get("matchLabels", {}).items())
    return exact and all(
        each["operator"] == "In" and labels.get(each["key"]) in each["values"]
        for each in selector.get("matchExpressions", ())
    )
