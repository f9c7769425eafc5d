"""How a broker of Kafka is reached: settings, and what kafka-python takes of them. Imports nothing of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from imageflow_common.errors import InvalidArgument, Violation

from .settings import PositiveInt, PositiveSeconds

_LONGEST_RECONNECT_MILLIS = 500  # the default lets a client sleep for half a minute after the broker is back


class KafkaSettings(BaseSettings):
    """What whoever talks to Kafka takes. Without bootstrap servers there is none."""

    model_config = SettingsConfigDict(env_prefix="IMAGEFLOW_KAFKA_", frozen=True)

    bootstrap_servers: str = ""
    """`HOST:PORT`, or several with commas between; unset: requests and news stay within the orchestrator."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """Whether the connection is encrypted, and whether we log in."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """How we log in."""
    username: str = ""
    """Who we are, where a login is asked for."""
    password: SecretStr = SecretStr("")
    """The password of the user; shown nowhere."""
    ca_file: Path | None = None
    """The authority that signed the brokers' certificates (PEM); unset: those that the system trusts."""
    certificate_file: Path | None = None
    """Our own certificate (PEM), where brokers ask for one."""
    key_file: Path | None = None
    """The key to our certificate (PEM)."""
    topic_prefix: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,100}$")] = ""
    """Put before the name of every topic and of the group, for several systems on one broker."""
    group: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")] = "imageflow-orchestrators"
    """The consumer group of the orchestrators that share the work."""
    create_topics: bool = False
    """Make the topics that are missing."""
    partitions: PositiveInt = 12
    """Partitions of a topic that we make: no more orchestrators than that share the work."""
    replication_factor: Annotated[int, Field(ge=-1, le=32767)] = -1
    """Copies of a topic that we make; -1: as the broker is configured."""
    timeout_seconds: PositiveSeconds = 5.0
    """How long the broker has to answer before it counts as away."""
    session_timeout_seconds: PositiveSeconds = 10.0
    """How long an orchestrator may be silent before others get its work."""
    max_in_flight: PositiveInt = 256
    """Messages that are being worked on or wait for it, and as many that are being sent."""

    def topic(self, name: str) -> str:
        return f"{self.topic_prefix}{name}"

    @property
    def group_id(self) -> str:
        return f"{self.topic_prefix}{self.group}"

    def client_options(self) -> dict[str, object]:
        """What every client of kafka-python is given. Raises InvalidArgument for settings that do not fit together."""
        millis = int(self.timeout_seconds * 1_000)
        return {
            "bootstrap_servers": [server.strip() for server in self.bootstrap_servers.split(",") if server.strip()],
            "security_protocol": self.security_protocol,
            "request_timeout_ms": max(1_000, millis),
            "bootstrap_timeout_ms": millis,
            "reconnect_backoff_max_ms": _LONGEST_RECONNECT_MILLIS,
            **self._login(),
            **self._certificates(),
        }

    def _login(self) -> dict[str, object]:
        if not self.security_protocol.startswith("SASL_"):
            return {}
        if not self.username or not self.password.get_secret_value():
            missing = "IMAGEFLOW_KAFKA_USERNAME and IMAGEFLOW_KAFKA_PASSWORD"
            raise InvalidArgument(f"{missing} are needed", violations=[Violation(missing, self.security_protocol)])
        return {
            "sasl_mechanism": self.sasl_mechanism,
            "sasl_plain_username": self.username,
            "sasl_plain_password": self.password.get_secret_value(),
        }

    def _certificates(self) -> dict[str, object]:
        if not self.security_protocol.endswith("SSL"):
            return {}
        files = {"ssl_cafile": self.ca_file, "ssl_certfile": self.certificate_file, "ssl_keyfile": self.key_file}
        for path in files.values():
            if path is not None and not path.is_file():
                raise InvalidArgument(f"there is no file {path}", violations=[Violation(str(path), "no such file")])
        return {name: None if path is None else str(path) for name, path in files.items()}
