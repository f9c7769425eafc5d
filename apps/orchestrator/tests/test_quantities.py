"""Kubernetes quantities are read as Kubernetes reads them."""

from __future__ import annotations

import pytest

from imageflow_common.errors import InvalidArgument
from imageflow_orchestrator.quantities import (
    ByteCount,
    MilliCpu,
    ResourceAmounts,
    parse_cpu,
    parse_gpu,
    parse_memory,
)


@pytest.mark.parametrize(
    ("text", "millicores"),
    [
        ("500m", 500),
        ("2", 2000),
        ("0.5", 500),
        (".5", 500),
        ("1e1", 10_000),
        ("0", 0),
        ("1n", 1),
        ("1k", 10**6),
    ],
)
def test_cpu_is_read_in_millicores_and_rounded_up(text: str, millicores: int) -> None:
    assert parse_cpu(text) == millicores


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("256Mi", 2**28),
        ("1Gi", 2**30),
        ("1G", 10**9),
        ("1024", 1024),
        ("1.5Ki", 1536),
        ("1e3", 1000),
        ("1m", 1),
    ],
)
def test_memory_is_read_in_bytes(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", " ", "-1", "1 Gi", "1GB", "1gi", "NaN", "inf", "1e", "1.2.3", "1" * 40])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    for parse in (parse_cpu, parse_memory):
        with pytest.raises(InvalidArgument, match=r"quantity|larger"):
            parse(text)


def test_more_than_any_machine_has_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="larger than any machine"):
        parse_memory("9999E")


@pytest.mark.parametrize("text", ["0.5", "-1", "1000m", "", "one"])
def test_gpus_are_whole(text: str) -> None:
    assert parse_gpu("2") == 2
    with pytest.raises(InvalidArgument, match="whole number"):
        parse_gpu(text)


def test_amounts_cover_what_is_no_larger_in_anything() -> None:
    has = ResourceAmounts(MilliCpu(500), ByteCount(2**30), 1)
    assert has.covers(has)
    assert has.covers(ResourceAmounts())
    assert not has.covers(ResourceAmounts(MilliCpu(501), ByteCount(1), 0))
    assert not ResourceAmounts(MilliCpu(9000), ByteCount(2**40)).covers(has)


def test_amounts_are_shown_as_they_are_written() -> None:
    assert str(ResourceAmounts(MilliCpu(500), ByteCount(2**30), 1)) == "500m cpu, 1Gi memory, 1 gpu"
    assert str(ResourceAmounts(MilliCpu(2000), ByteCount(1000))) == "2 cpu, 1000 memory"
