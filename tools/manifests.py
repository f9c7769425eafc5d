"""Writes what the manifests have from elsewhere in the tree, and renders them.

    python tools/manifests.py            # the copies, the Prometheus rules; then every overlay to build/manifests/
    python tools/manifests.py --check    # ends with status 1 where a copy is not what it is copied from

Rendering is kustomize's: that of the PATH, else it is built with Go, once.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, Final

import yaml

TOP: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(TOP))

from backends.kustomize import render  # noqa: E402 - a tool of the tree, run by its path

K8S: Final = TOP / "k8s"
OVERLAYS: Final = ("dev", "production")
_MONITORING: Final = K8S / "components" / "monitoring"
_OBSERVABILITY: Final = TOP / "observability"
_COPIES: Final = {
    K8S / "base" / "registry.yaml": TOP / "apps/orchestrator/imageflow_orchestrator/registry.yaml",
    **{
        _MONITORING / "copied" / source.name: source
        for source in (
            *(_OBSERVABILITY / "collector" / f"{name}.yaml" for name in ("collector", "kubernetes", "nodes")),
            *sorted((_OBSERVABILITY / "dashboards").glob("*.json")),
        )
    },
    **{
        K8S / "components" / "collectors" / "copied" / f"{name}.yaml": _OBSERVABILITY / "collector" / f"{name}.yaml"
        for name in ("collector", "balancer", "sampler")
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    if parser.parse_args().check:
        if stale := [str(path.relative_to(TOP)) for path, text in written().items() if _text(path) != text]:
            sys.exit(f"not what they are copied from; run `make manifests`: {', '.join(stale)}")
        return
    for path, text in written().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    folder = TOP / "build" / "manifests"
    folder.mkdir(parents=True, exist_ok=True)
    for name in OVERLAYS:
        (folder / f"{name}.yaml").write_text(render(K8S / "overlays" / name), encoding="utf-8")
        print(folder.relative_to(TOP) / f"{name}.yaml")


def written() -> dict[Path, str]:
    """What each file that is written here holds."""
    copies = {path: source.read_text(encoding="utf-8") for path, source in _COPIES.items()}
    return {**copies, _MONITORING / "rules.yaml": _rules()}


def _rules() -> str:
    groups: list[Any] = []
    for name in ("recording", "alerts"):
        groups += yaml.safe_load((_OBSERVABILITY / "prometheus" / f"{name}.yaml").read_text(encoding="utf-8"))["groups"]
    rule = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "imageflow", "namespace": "monitoring"},
        "spec": {"groups": groups},
    }
    head = "# Written by tools/manifests.py from observability/prometheus/.\n"
    return head + yaml.safe_dump(rule, sort_keys=False, allow_unicode=True, width=1_000)


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


if __name__ == "__main__":
    main()
