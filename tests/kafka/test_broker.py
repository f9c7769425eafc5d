"""The broker that tests bring up, and the ways in which it can be reached."""

from __future__ import annotations

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from pydantic import SecretStr

from backends.kafka import PASSWORD, USER, KafkaServer
from imageflow_common.errors import ImageFlowError, InvalidArgument, PermissionDenied, Unavailable
from imageflow_common.kafka_sender import KafkaSender, Outgoing
from imageflow_common.kafka_settings import KafkaSettings
from imageflow_common.kafka_topics import create_topics, missing_topics


def test_a_broker_that_was_killed_starts_again_with_what_it_acknowledged(
    kafka_server: KafkaServer, kafka_settings: KafkaSettings
) -> None:
    create_topics(kafka_settings, ["kept"])
    topic = kafka_settings.topic("kept")
    producer = KafkaProducer(bootstrap_servers=kafka_server.bootstrap_servers)
    for number in range(50):
        producer.send(topic, b"%d" % number, partition=0).get(timeout=10)
    before = kafka_server.ports
    kafka_server.kill()
    assert kafka_server.runs_as() is None
    kafka_server.start()
    assert kafka_server.ports == before
    consumer = KafkaConsumer(bootstrap_servers=kafka_server.bootstrap_servers)
    partition = TopicPartition(topic, 0)
    assert consumer.end_offsets([partition]) == {partition: 50}
    consumer.close()
    producer.close(timeout=1)


def test_topics_are_made_only_when_asked(kafka_settings: KafkaSettings) -> None:
    assert missing_topics(kafka_settings, ["one", "two"]) == [kafka_settings.topic("one"), kafka_settings.topic("two")]
    create_topics(kafka_settings, ["one"])
    create_topics(kafka_settings, ["one"])
    assert missing_topics(kafka_settings, ["one", "two"]) == [kafka_settings.topic("two")]


def logged_in(server: KafkaServer, settings: KafkaSettings, *, protocol: str, **others: object) -> KafkaSettings:
    port = server.ports["tls" if protocol == "SASL_SSL" else "sasl"]
    login = {"security_protocol": protocol, "username": USER, "password": SecretStr(PASSWORD), **others}
    return settings.model_copy(update={"bootstrap_servers": f"127.0.0.1:{port}", **login})


@pytest.mark.parametrize("protocol", ["SASL_PLAINTEXT", "SASL_SSL"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_messages_are_sent_with_a_login(
    kafka_server: KafkaServer, kafka_settings: KafkaSettings, protocol: str, mechanism: str
) -> None:
    authority = kafka_server.ca_file if protocol == "SASL_SSL" else None
    settings = logged_in(kafka_server, kafka_settings, protocol=protocol, sasl_mechanism=mechanism, ca_file=authority)
    create_topics(settings, ["private"], partitions=1)
    sender = KafkaSender(settings)
    await sender.send(Outgoing(settings.topic("private"), b"key", b"body"))
    await sender.close()


@pytest.mark.parametrize(
    ("protocol", "wrong", "expected"),
    [
        ("SASL_PLAINTEXT", {"password": SecretStr("guessed")}, (PermissionDenied, Unavailable)),
        ("SASL_SSL", {"ca_file": None}, Unavailable),
    ],
    ids=["another password", "an authority that is not ours"],
)
async def test_who_is_not_let_in_is_told_in_time(
    kafka_server: KafkaServer,
    kafka_settings: KafkaSettings,
    protocol: str,
    wrong: dict[str, object],
    expected: type[ImageFlowError] | tuple[type[ImageFlowError], ...],
) -> None:
    settings = logged_in(kafka_server, kafka_settings, protocol=protocol, **wrong)
    sender = KafkaSender(settings.model_copy(update={"timeout_seconds": 1.0}))
    with pytest.raises(expected) as refused:
        await sender.send(Outgoing(settings.topic("private"), b"key", b"body"))
    assert "guessed" not in str(refused.value)
    await sender.close()


def test_a_login_without_a_password_is_refused_before_anything_is_sent() -> None:
    settings = KafkaSettings(bootstrap_servers="127.0.0.1:1", security_protocol="SASL_SSL", username="somebody")
    with pytest.raises(InvalidArgument, match="IMAGEFLOW_KAFKA_PASSWORD"):
        settings.client_options()


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(KafkaSettings(password=SecretStr("secret")))
