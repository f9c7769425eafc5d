"""The servers that keep metrics, traces and logs, on this machine: how each is run with the configuration that comes
with the command, on loopback alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Final

HOST: Final = "127.0.0.1"
_JAVA: Final = ("-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


@dataclass(frozen=True, slots=True)
class Ports:
    """Where each is reached on loopback."""

    otlp: int
    otlp_http: int
    collector_health: int
    collector_metrics: int
    collector_own: int
    prometheus: int
    zipkin: int
    loki: int
    loki_grpc: int
    gateway_status: int
    """Where an `imageflow up` that is started beside them has its gateway's metrics."""


@dataclass(frozen=True, slots=True)
class Run:
    """A command with its own environment."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)


def collector(
    program: str, folder: Path, ports: Ports, *, logs: Path, settings: Mapping[str, str] | None = None
) -> Run:
    """The collector; reads `*.jsonl` in `logs`. `settings` go before what is set here."""
    environment = {
        "IMAGEFLOW_COLLECTOR_GRPC": f"{HOST}:{ports.otlp}",
        "IMAGEFLOW_COLLECTOR_HTTP": f"{HOST}:{ports.otlp_http}",
        "IMAGEFLOW_COLLECTOR_HEALTH": f"{HOST}:{ports.collector_health}",
        "IMAGEFLOW_COLLECTOR_METRICS": f"{HOST}:{ports.collector_metrics}",
        "IMAGEFLOW_COLLECTOR_OWN_HOST": HOST,
        "IMAGEFLOW_COLLECTOR_OWN_PORT": str(ports.collector_own),
        "IMAGEFLOW_LOG_FILES": str(logs / "*.jsonl"),
        "IMAGEFLOW_LOG_STORE": f"http://{HOST}:{ports.loki}/otlp",
        "IMAGEFLOW_ZIPKIN_SPANS": f"http://{HOST}:{ports.zipkin}/api/v2/spans",
        "IMAGEFLOW_GATEWAY_STATUS": f"{HOST}:{ports.gateway_status}",
        "IMAGEFLOW_TRACES_FILE": str(folder / "traces.json"),
        **(settings or {}),
    }
    for name in ("collector.yaml", "collector-local.yaml"):
        (folder / name).write_text(_text(name), encoding="utf-8")
    configuration = ("--config", str(folder / "collector.yaml"), "--config", str(folder / "collector-local.yaml"))
    return Run((program, *configuration), environment)


def prometheus(program: str, folder: Path, ports: Ports, *, interval_seconds: int = 15) -> Run:
    """Prometheus with our rules, asking the collector each `interval_seconds`."""
    configuration = _text("prometheus.yaml").replace("_interval: 15s", f"_interval: {interval_seconds}s")
    for port, target in ((ports.collector_metrics, "otelcol:8889"), (ports.collector_own, "otelcol:8888")):
        configuration = configuration.replace(target, f"{HOST}:{port}")
    (folder / "prometheus.yaml").write_text(configuration, encoding="utf-8")
    for name in ("recording.yaml", "alerts.yaml"):
        (folder / name).write_text(_text(name), encoding="utf-8")
    return Run(
        (
            program,
            f"--config.file={folder / 'prometheus.yaml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--storage.tsdb.retention.time=7d",
            f"--web.listen-address={HOST}:{ports.prometheus}",
            "--enable-feature=exemplar-storage",
            "--log.level=warn",
        )
    )


def zipkin(java: str, jar: Path, ports: Ports) -> Run:
    """Zipkin, which keeps the last 500,000 spans in memory."""
    listen = {"ip": HOST, "port": str(ports.zipkin), "protocols[0]": "http"}
    arguments = [f"--armeria.ports[0].{name}={value}" for name, value in listen.items()]
    return Run((java, *_JAVA, "-jar", str(jar), *arguments, "--logging.level.root=WARN"))


def loki(program: str, folder: Path, ports: Ports) -> Run:
    """Loki, which keeps its data under the folder."""
    (folder / "loki.yaml").write_text(_text("loki.yaml"), encoding="utf-8")
    environment = {
        "LOKI_HOST": HOST,
        "LOKI_HTTP_PORT": str(ports.loki),
        "LOKI_GRPC_PORT": str(ports.loki_grpc),
        "LOKI_DATA": str(folder / "data"),
    }
    return Run((program, f"-config.file={folder / 'loki.yaml'}", "-config.expand-env=true"), environment)


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
