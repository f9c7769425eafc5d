"""Every document fits its schema, strictly, in the version of Kubernetes that the tests run."""

from __future__ import annotations

from pathlib import Path

import kubernetes_validate
import pytest

from backends.kubernetes import VERSION

from .cluster import OVERLAYS, Document, documents, of_kind, with_components

MINOR = ".".join(VERSION.split(".")[:2])
CUSTOM = {"ServiceMonitor", "PrometheusRule", "ExternalSecret", "Certificate"}
"""Looked at by the API server, in test_cluster.py."""
pytestmark = [pytest.mark.usefixtures("rendering"), pytest.mark.timeout(600)]  # it may have to be built


def check(docs: list[Document]) -> None:
    for each in docs:
        if each["kind"] not in CUSTOM:
            kubernetes_validate.validate(each, MINOR, strict=True)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay(overlay: str) -> None:
    check(documents(overlay))


@pytest.mark.parametrize(
    "components",
    [("minio", "kafka", "triton"), ("triton", "gpu", "autoscaling"), ("colocated", "minio", "kafka"), ("monitoring",)],
    ids="+".join,
)
def test_components_together(components: tuple[str, ...], tmp_path: Path) -> None:
    check(with_components(tmp_path, *components))


def test_a_key_that_is_misspelt_does_not_fit() -> None:
    gateway = of_kind(documents("dev"), "Deployment")["gateway"]
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate({**gateway, "spec": {**gateway["spec"], "replica": 3}}, MINOR, strict=True)
