"""What packed batches are read as, and how far they are unpacked."""

from __future__ import annotations

import gzip
import tracemalloc
from typing import Any

import pytest
from kafka.errors import CorruptRecordError
from kafka.record.default_records import DefaultRecordBatch, DefaultRecordBatchBuilder
from kafka.record.memory_records import MemoryRecords

from imageflow_common.kafka_consumer import MAX_UNPACKED_BYTES, UNREAD_HEADER

CODECS = {
    "plain": DefaultRecordBatch.CODEC_NONE,
    "gzip": DefaultRecordBatch.CODEC_GZIP,
    "snappy": DefaultRecordBatch.CODEC_SNAPPY,
    "lz4": DefaultRecordBatch.CODEC_LZ4,
    "zstd": DefaultRecordBatch.CODEC_ZSTD,
}
PACKED = {name: codec for name, codec in CODECS.items() if name != "plain"}


def batch(codec: int, *values: bytes | None) -> bytearray:
    builder = DefaultRecordBatchBuilder(2, codec, False, -1, -1, -1, 1 << 30)
    for number, value in enumerate(values):
        assert builder.append(number, 1_000, b"key", value, [("name", b"value")]) is not None
    built: bytearray = builder.build()
    return built


def read(data: bytes | bytearray) -> list[Any]:
    return [record for each in MemoryRecords(bytes(data)) for record in each]


@pytest.mark.parametrize("codec", CODECS.values(), ids=CODECS)
def test_what_is_within_the_bound_is_read_as_it_was_sent(codec: int) -> None:
    values = [b"", None, b"x" * 1_000_000, b"last"]
    records = read(batch(codec, *values) + batch(codec, b"next"))
    assert [(each.offset, each.key, each.value) for each in records] == [
        *((number, b"key", value) for number, value in enumerate(values)),
        (0, b"key", b"next"),
    ]
    assert records[2].headers == [("name", b"value")]


@pytest.mark.parametrize("codec", PACKED.values(), ids=PACKED)
def test_what_unpacks_to_more_is_one_message_without_a_body_at_the_last_offset(codec: int) -> None:
    packed = batch(codec, b"first", bytes(4 * MAX_UNPACKED_BYTES), b"last")
    header_bytes = DefaultRecordBatch.HEADER_STRUCT.size
    tracemalloc.start()
    records = read(packed + batch(codec, b"next"))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    [large, small] = records
    assert (large.offset, large.key, large.value) == (2, None, None)
    assert large.headers == [(UNREAD_HEADER, b"%d" % (len(packed) - header_bytes))]
    assert small.value == b"next"
    assert most < 3 * MAX_UNPACKED_BYTES


def test_members_that_are_packed_one_behind_the_other_count_together() -> None:
    built = batch(DefaultRecordBatch.CODEC_GZIP, b"small" * 100)
    header_bytes = DefaultRecordBatch.HEADER_STRUCT.size
    member = gzip.compress(bytes(MAX_UNPACKED_BYTES // 3))
    [record] = read(_framed(built[:header_bytes] + member * 4))
    assert UNREAD_HEADER in dict(record.headers)


@pytest.mark.parametrize("codec", PACKED.values(), ids=PACKED)
@pytest.mark.parametrize("left", [0, 1, 30])
def test_what_cannot_be_unpacked_is_said(codec: int, left: int) -> None:
    built = batch(codec, b"one" * 100)
    with pytest.raises(CorruptRecordError):
        read(_framed(built[: DefaultRecordBatch.HEADER_STRUCT.size + left]))


def _framed(built: bytearray) -> bytearray:
    """With the length that it has now."""
    return built[:8] + (len(built) - 12).to_bytes(4, "big") + built[12:]
