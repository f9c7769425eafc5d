"""Which processes `imageflow up` runs, and what each is told: decided here, done by others."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

from .child import Program
from .gateway import Endpoint, LocalAddresses, LogLevel, Spans, envoy_command, local_config
from .logsink import LogFormat
from .ports import free_ports
from .registry_file import BUILT_IN, Address, Entry, LocalRegistry, built_in_command

HOST: Final = "127.0.0.1"
GATEWAY: Final = "gateway"
ORCHESTRATOR: Final = "orchestrator"
STATUS_PORT: Final = "IMAGEFLOW_GATEWAY_STATUS_PORT"

ServiceLogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
_ENVOY_LEVELS: Final[Mapping[ServiceLogLevel, LogLevel]] = {
    "DEBUG": "debug",
    "INFO": "warn",  # what Envoy says at info is about itself
    "WARNING": "warn",
    "ERROR": "error",
}


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What `imageflow up` was asked for. `environment` is for the orchestrator alone."""

    port: int = 8080
    models: Path | None = None
    triton: str | None = None
    replicas: Mapping[str, int] = field(default_factory=dict)
    log_level: ServiceLogLevel = "INFO"
    log_format: LogFormat = "text"
    shared_memory: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Places:
    """Where files of this run go. `memory` is a folder of ours on a tmpfs, with a short path."""

    run: Path
    store: Path
    memory: Path

    @property
    def shared(self) -> Path:
        return self.memory / "shared"

    @property
    def admin_socket(self) -> Path:
        return self.memory / "admin.sock"

    @property
    def registry(self) -> Path:
        return self.run / "registry.yaml"

    @property
    def gateway_config(self) -> Path:
        return self.run / "gateway.yaml"


@dataclass(frozen=True, slots=True)
class Topology:
    """The processes, and the text of the files that they read."""

    components: tuple[Program, ...]
    orchestrator: Program
    gateway: Program
    registry: str
    gateway_config: str
    url: str

    @property
    def services(self) -> tuple[Program, ...]:
        """All that speak gRPC health."""
        return (*self.components, self.orchestrator)

    @property
    def programs(self) -> tuple[Program, ...]:
        return (*self.services, self.gateway)


class UnknownReplicas(Exception):
    """Replicas were asked for of something that is not started here."""


def plan_topology(options: UpOptions, registry: LocalRegistry, places: Places) -> Topology:
    """Takes free ports for all. Raises UnknownReplicas, EnvoyNotFoundError, and OSError without free ports."""
    entries = registry.entries()
    started = [entry for entry in entries if entry.command]
    counts = {entry.name: options.replicas.get(entry.name, 1) for entry in started}
    if unknown := sorted(set(options.replicas) - set(counts)):
        raise UnknownReplicas(f"no {', '.join(unknown)} is started here; there are {', '.join(sorted(counts))}")
    ports = iter(free_ports(sum(counts.values()) + 3))
    addresses = {name: [(HOST, next(ports)) for _ in range(count)] for name, count in counts.items()}
    orchestrator = (HOST, next(ports))
    endpoint = Endpoint(HOST, options.port or next(ports))
    local = LocalAddresses(
        services=_gateway_services(entries, addresses, orchestrator),
        gateway=endpoint,
        status=Endpoint(HOST, _status_port(os.environ) or next(ports)),
        admin_socket=places.admin_socket,
        spans=_spans(os.environ),
    )
    return Topology(
        components=tuple(_components(options, started, addresses, places)),
        orchestrator=_orchestrator(options, orchestrator, places),
        gateway=Program(
            GATEWAY,
            tuple(envoy_command(places.gateway_config, log_level=_ENVOY_LEVELS[options.log_level])),
            address=f"{HOST}:{endpoint.port}",
            stop_seconds=5.0,
        ),
        registry=registry.with_addresses(addresses),
        gateway_config=local_config(local),
        url=f"http://{HOST}:{endpoint.port}",
    )


def _status_port(environ: Mapping[str, str]) -> int:
    """Where a collector that was started before expects the gateway's metrics; 0: nowhere in particular."""
    named = environ.get(STATUS_PORT, "")
    return int(named) if named.isdecimal() and int(named) < 1 << 16 else 0


def _spans(environ: Mapping[str, str]) -> Spans | None:
    """As the services are told by OpenTelemetry's variables; a caller's own decision goes before all of them. To a
    collector by TLS the gateway sends none: then it only passes on what callers send."""
    sampler = environ.get("OTEL_TRACES_SAMPLER", "").removeprefix("parentbased_")
    try:
        place = urlsplit(environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", ""))
        host, port = place.hostname, place.port or 4317
    except ValueError:
        return None
    if place.scheme != "http" or not host or sampler == "always_off":
        return None
    return Spans(Endpoint(host, port), _percent(environ) if sampler == "traceidratio" else 100.0)


def _percent(environ: Mapping[str, str]) -> float:
    try:
        share = float(environ.get("OTEL_TRACES_SAMPLER_ARG", "1"))
    except ValueError:
        return 100.0
    return 100 * min(max(share, 0.0), 1.0) if math.isfinite(share) else 100.0


def _components(
    options: UpOptions, entries: list[Entry], addresses: Mapping[str, list[Address]], places: Places
) -> Iterator[Program]:
    for entry in entries:
        replicas = addresses[entry.name]
        for number, address in enumerate(replicas, start=1):
            environment = _environment(options, address, places)
            if options.models is not None:
                environment["IMAGEFLOW_MODELS_DIRECTORY"] = str(options.models.resolve())
            if options.triton is not None:
                environment["IMAGEFLOW_TRITON_URL"] = options.triton
            name = entry.name if len(replicas) == 1 else f"{entry.name}-{number}"
            yield Program(name, entry.command, _text(address), environment, entry.directory)


def _orchestrator(options: UpOptions, address: Address, places: Places) -> Program:
    environment = {
        **_environment(options, address, places),
        "IMAGEFLOW_STORE_URL": os.environ.get("IMAGEFLOW_STORE_URL") or places.store.resolve().as_uri(),
        "IMAGEFLOW_REGISTRY_FILE": str(places.registry.resolve()),
        **options.environment,
    }
    return Program(ORCHESTRATOR, built_in_command(ORCHESTRATOR), _text(address), environment)


def _environment(options: UpOptions, address: Address, places: Places) -> dict[str, str]:
    shared = {"IMAGEFLOW_SHARED_DIRECTORY": str(places.shared)} if options.shared_memory else {}
    return {
        **shared,
        "IMAGEFLOW_HOST": address[0],
        "IMAGEFLOW_PORT": str(address[1]),
        "IMAGEFLOW_LOG_FORMAT": options.log_format,
        "IMAGEFLOW_LOG_LEVEL": options.log_level,
        # A registry's `python` is this one, also where no virtual environment is active.
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath))),
    }


def _gateway_services(
    entries: tuple[Entry, ...], addresses: Mapping[str, list[Address]], orchestrator: Address
) -> dict[str, list[Endpoint]]:
    services = {ORCHESTRATOR: [Endpoint(*orchestrator)]}
    for entry in entries:
        if entry.name in BUILT_IN:
            places = addresses.get(entry.name) or _parse(entry.addresses)
            services[entry.name] = [Endpoint(*place) for place in places]
    return services


def _parse(targets: tuple[str, ...]) -> list[Address]:
    """The places in gRPC targets such as `ipv4:10.0.0.1:9090,10.0.0.2:9090` and `dns:///resize:9090`."""
    places = []
    for target in targets:
        bare = target.removeprefix("ipv4:").removeprefix("dns:").lstrip("/")
        for place in bare.split(","):
            host, _, port = place.rpartition(":")
            if host and port.isdigit():
                places.append((host, int(port)))
    return places


def _text(address: Address) -> str:
    return f"{address[0]}:{address[1]}"
