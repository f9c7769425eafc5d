"""A server that stands in a kept cache is found again where it was, also by a later version that listens on more."""

from __future__ import annotations

import json
from pathlib import Path

from backends.kafka import KafkaServer


def test_ports_are_kept(tmp_path: Path) -> None:
    assert KafkaServer(tmp_path).ports == KafkaServer(tmp_path).ports


def test_a_listener_added_since_gets_a_port_and_the_others_keep_theirs(tmp_path: Path) -> None:
    kept = {"plain": 20001, "sasl": 20002, "tls": 20003, "since gone": 20004}
    (tmp_path / "ports.json").write_text(json.dumps(kept))

    ports = KafkaServer(tmp_path).ports

    assert set(ports) == set(KafkaServer.ports_needed)
    assert [ports[name] for name in ("plain", "sasl", "tls")] == [20001, 20002, 20003]
    assert len(set(ports.values())) == len(ports)
    assert KafkaServer(tmp_path).ports == ports
