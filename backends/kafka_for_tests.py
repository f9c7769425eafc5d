"""The broker of a test session, and settings with which a test has its topics to itself."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from backends.container import ContainedKafka
from backends.given import GivenKafka
from backends.kafka import KafkaServer
from backends.running import PULL_SECONDS, running
from imageflow_common.kafka_settings import KafkaSettings


@pytest.fixture(scope="session")
def kafka_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A broker of this session's own, which a test may kill and start again."""
    folder = tmp_path_factory.mktemp("kafka")
    yield from running(KafkaServer(folder), contained=ContainedKafka(folder, pull_seconds=PULL_SECONDS))


@pytest.fixture
def kafka_settings(request: pytest.FixtureRequest) -> KafkaSettings:
    """The broker that the environment names, else the session's own; under a prefix that no other test has."""
    named = os.environ.get(GivenKafka.variable)
    servers = named or request.getfixturevalue("kafka_server").bootstrap_servers
    return KafkaSettings(
        bootstrap_servers=servers,
        topic_prefix=f"t{uuid.uuid4().hex[:8]}-",
        partitions=3,
        replication_factor=1,
        session_timeout_seconds=2.0,
        timeout_seconds=5.0,
    )
