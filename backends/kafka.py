"""Kafka: one broker (KRaft), from Maven Central by `mvn`, with a plain listener and two that want a password.

`plain` is for everybody; `sasl` takes PLAIN and SCRAM; `tls` takes the same over TLS, with the certificate of an
authority made for this directory alone. `proxied` is as `plain` for clients that come through a proxy, which they are
sent back to.
"""

from __future__ import annotations

import base64
import os
import shutil
import socket
import ssl
import struct
import subprocess
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

from backends.cache import cache_directory, finish, finished, installing
from backends.certificates import make_certificates
from backends.server import CannotStart, Server

VERSION = "4.4.0"
USER, PASSWORD = "imageflow", "loopback-only"
_PROJECT = f"""<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>imageflow</groupId><artifactId>broker</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency>
    <dependency><groupId>org.slf4j</groupId><artifactId>slf4j-simple</artifactId><version>1.7.36</version></dependency>
  </dependencies>
</project>
"""
_COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
_JAVA = ("-Xms128m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:MaxMetaspaceSize=128m")
_SERVED = ("plain", "sasl", "tls")
_WHAT_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, -1)
"""A request of https://kafka.apache.org/protocol that a broker answers to everybody: ApiVersions, of nobody."""
_LOGIN = "org.apache.kafka.common.security.{kind}LoginModule required"


class KafkaServer(Server):
    """Keeps its data, so that a killed broker starts again with what it acknowledged."""

    name = "kafka"
    ports_needed: ClassVar[tuple[str, ...]] = (*_SERVED, "controller", "proxied")
    bound: ClassVar[str] = "127.0.0.1"

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.proxy_port = self.ports["proxied"]
        """Where clients of `proxied` are told to go; to be set before it starts."""

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self.ports['plain']}"

    @property
    def ca_file(self) -> Path:
        return self.directory / "tls" / "ca.pem"

    @property
    def jars(self) -> Path:
        return cache_directory() / self.name / "lib"

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def keystore(self) -> Path:
        return self.directory / "tls" / "server.pem"

    def install(self) -> None:
        for needed in ("java", "mvn", "openssl"):
            if shutil.which(needed) is None:
                raise CannotStart(f"needs {needed}: Kafka is fetched by Maven, and runs on Java 17 or later")
        with installing(self.name) as folder:
            if finished(folder, VERSION):
                return
            (folder / "pom.xml").write_text(_PROJECT)
            fetched = _run("mvn", "-B", "-q", _COPY, f"-DoutputDirectory={self.jars}", cwd=folder)
            if fetched.returncode:
                raise CannotStart(f"needs Kafka's jars: {fetched.stdout[-2_000:]}")
            finish(folder, VERSION)

    def prepare(self) -> None:
        """Certificates, configuration and an empty log are made once."""
        if not self.ca_file.exists():
            make_certificates(self.ca_file.parent)
        (self.directory / "server.properties").write_text(self.properties())
        if not (self.data / "meta.properties").exists():
            formatted = _run(*self.formatting(), cwd=self.directory)
            if formatted.returncode:
                raise CannotStart(f"kafka could not make its log: {formatted.stdout[-2_000:]}")

    def formatting(self) -> Sequence[str]:
        """What makes an empty log, beside `server.properties`."""
        scram = [f"SCRAM-SHA-{bits}=[name={USER},password={PASSWORD}]" for bits in (256, 512)]
        return [
            *("java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", f"{self.jars}/*", "kafka.tools.StorageTool"),
            *("format", "--standalone", f"--cluster-id={_cluster_id()}", "-c", "server.properties"),
            *(argument for user in scram for argument in ("--add-scram", user)),
        ]

    def command(self) -> Sequence[str]:
        quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        return ["java", *_JAVA, quiet, "-cp", f"{self.jars}/*", "kafka.Kafka", "server.properties"]

    def ready(self) -> bool:
        """It opens its listeners when it has read its log and is registered with its controller."""
        try:
            return all(self._answers(name) for name in _SERVED)
        except OSError:
            return False

    def _answers(self, listener: str) -> bool:
        """That something listens is not enough: before a container an engine does."""
        with ExitStack() as closing:
            connection = socket.create_connection(("127.0.0.1", self.ports[listener]), timeout=1)
            closing.callback(connection.close)
            if listener == "tls":
                trust = ssl.create_default_context(cafile=self.ca_file)
                connection = closing.enter_context(trust.wrap_socket(connection, server_hostname="localhost"))
            connection.sendall(_WHAT_VERSIONS)
            return bool(connection.recv(4))

    def settings(self) -> Mapping[str, str]:
        return {"IMAGEFLOW_KAFKA_BOOTSTRAP_SERVERS": self.bootstrap_servers, "IMAGEFLOW_KAFKA_CREATE_TOPICS": "true"}

    def properties(self) -> str:
        """Its configuration."""
        controller = f"127.0.0.1:{self.ports['controller']}"
        listeners = [f"{name.upper()}://{self.bound}:{self.ports[name]}" for name in (*_SERVED, "proxied")]
        reached = [f"{name.upper()}://127.0.0.1:{self.ports[name]}" for name in _SERVED]
        protocols = {"PLAIN": "PLAINTEXT", "PROXIED": "PLAINTEXT", "CONTROLLER": "PLAINTEXT"}
        protocols |= {"SASL": "SASL_PLAINTEXT", "TLS": "SASL_SSL"}
        lines = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.bootstrap.servers": controller,
            "controller.listener.names": "CONTROLLER",
            "listeners": ",".join([*listeners, f"CONTROLLER://{controller}"]),
            "advertised.listeners": ",".join([*reached, f"PROXIED://127.0.0.1:{self.proxy_port}"]),
            "listener.security.protocol.map": ",".join(f"{name}:{protocol}" for name, protocol in protocols.items()),
            "inter.broker.listener.name": "PLAIN",
            "log.dirs": str(self.data),
            "auto.create.topics.enable": "false",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.keystore),
            **_SMALL,
            **_SOON,
        }
        plain = f'{_LOGIN.format(kind="plain.Plain")} user_{USER}="{PASSWORD}";'
        scram = f"{_LOGIN.format(kind='scram.Scram')};"
        for listener in ("sasl", "tls"):
            lines[f"listener.name.{listener}.plain.sasl.jaas.config"] = plain
            for bits in (256, 512):
                lines[f"listener.name.{listener}.scram-sha-{bits}.sasl.jaas.config"] = scram
        return "".join(f"{name}={value}\n" for name, value in lines.items())


_SMALL = {
    "num.network.threads": "2",
    "num.io.threads": "2",
    "background.threads": "2",
    "num.recovery.threads.per.data.dir": "1",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "share.coordinator.state.topic.num.partitions": "1",
    "log.segment.bytes": "16777216",
    "metadata.log.segment.bytes": "16777216",
    "log.cleaner.dedupe.buffer.size": "2097152",
    "log.cleaner.threads": "1",
    "log.index.size.max.bytes": "1048576",
}
"""One broker with little to do."""

_SOON = {
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "500",
}
"""A broker that was killed is back in 3 s instead of 11, and tests need not wait for groups."""


def _cluster_id() -> str:
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def _run(*command: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=cwd, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300
    )
